//! What a node makes of its configuration.

use super::*;

#[test]
fn the_hash_of_a_geometry_knows_every_field_and_no_order_of_classes() {
    let base = Geometry::for_objects(1_000);
    let hash = geometry_hash(&base);
    let mut turned = base.clone();
    turned.classes.reverse();
    assert_eq!(geometry_hash(&turned), hash);

    let changes: [fn(&mut Geometry); 8] = [
        |geometry| geometry.slots += 1,
        |geometry| geometry.classes[0].count += 1,
        |geometry| geometry.queues[0].lanes += 1,
        |geometry| geometry.queues[0].name.push('x'),
        |geometry| geometry.ports.push(String::new()),
        |geometry| geometry.participants += 1,
        |geometry| geometry.max_attempts += 1,
        |geometry| geometry.inbox_limit += 1,
    ];
    for (at, change) in changes.iter().enumerate() {
        let mut other = base.clone();
        change(&mut other);
        assert_ne!(geometry_hash(&other), hash, "change {at}");
    }
}

mod journal;
mod pair;
mod snapshot;
