//! What a person is told when nobody can begin: the view names states that are in no region any more, or in one that is not
//! there. It may be three in the morning, so: what the view said, what is here, what is lost, and what can be done.

use serde_json::{Value, json};

use super::events::node_name;
use crate::protocol::{History, NodeId, View};

/// What this node knows.
pub(super) struct Cold<'a> {
    pub(super) view: &'a View,
    /// The other node is named by the view, and has not been heard.
    pub(super) awaited: Option<NodeId>,
    /// What this node's region holds.
    pub(super) held: &'a History,
    pub(super) has_journal: bool,
}

impl Cold<'_> {
    /// Adds it to the event, and says it to whoever reads the log.
    pub(super) fn tell(&self, fields: &mut Value) {
        let (held, lost, next) = (self.held(), self.lost(), self.next());
        tracing::error!("{}\n  lost: {lost}\n  next: {next}", self.what());
        let more = json!({ "held": held, "awaited": self.awaited(), "lost": lost, "next": next });
        if let (Value::Object(fields), Value::Object(more)) = (fields, more) {
            fields.extend(more);
        }
    }

    fn held(&self) -> Option<String> {
        self.held.is_known().then(|| self.held.end.to_string())
    }

    fn awaited(&self) -> Option<String> {
        self.awaited.map(node_name)
    }

    fn what(&self) -> String {
        let View { number, epoch, .. } = *self.view;
        let members: Vec<_> = self.view.members().map(|member| node_name(member.node)).collect();
        let here = match self.held() {
            Some(end) => format!("the region here is another one, with the state up to {end}"),
            None => "the region here is another one, and empty".to_owned(),
        };
        let there = match self.awaited() {
            Some(node) => format!("node {node} is out of reach"),
            None => "nobody has the one that it names".to_owned(),
        };
        format!(
            "nothing to start from: the last view (number {number}, epoch {epoch}) has primary {}, in step {}; {here}; {there}",
            node_name(self.view.primary),
            members.join(" and "),
        )
    }

    fn lost(&self) -> String {
        let epoch = self.view.epoch;
        let unless = self.awaited().map_or_else(String::new, |node| {
            format!(", unless node {node} comes back with its region")
        });
        match self.held() {
            Some(end) => format!(
                "everything that was committed after {end}, up to the end of epoch {epoch}{unless}"
            ),
            None => format!("everything that was committed up to the end of epoch {epoch}{unless}"),
        }
    }

    fn next(&self) -> String {
        let mut steps = Vec::new();
        if let Some(node) = self.awaited() {
            steps.push(format!("start node {node}, if its region may still be there"));
        }
        if self.has_journal && !self.held.is_known() {
            steps.push(
                "`hotpair journal show DIR` of both nodes says which journal leads further: stop that node and \
                 make its region with `hotpair journal replay --config FILE`"
                    .to_owned(),
            );
        }
        steps.push(
            "`hotpair promote --accept-loss` lets a node begin with what it has, and gives up what is lost".to_owned(),
        );
        steps.join("; or: ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{Member, Seq};
    use crate::wire::EpochStart;

    #[test]
    fn a_person_learns_what_is_lost_and_what_to_do() {
        let member = |node| Member { node: NodeId(node), incarnation: 7 };
        let view = View::pair(12, 3, member(1), member(2));
        let start = EpochStart { epoch: 3, base: 0, leader: 7 };
        let some = History { epochs: vec![start], end: Seq::new(3, 90) };
        let nothing = History::default();
        let tell = |held, awaited, has_journal| {
            let mut fields = json!({});
            Cold { view: &view, awaited, held, has_journal }.tell(&mut fields);
            fields
        };
        let bare = tell(&nothing, None, false);
        assert_eq!(bare["held"], Value::Null);
        assert_eq!(bare["lost"], "everything that was committed up to the end of epoch 3");
        assert!(!bare["next"].as_str().is_some_and(|next| next.contains("journal")), "{bare}");
        assert!(bare["next"].as_str().is_some_and(|next| next.contains("--accept-loss")), "{bare}");

        let hope = tell(&nothing, Some(NodeId(2)), true);
        assert_eq!(hope["awaited"], "b");
        assert!(
            hope["lost"]
                .as_str()
                .is_some_and(|lost| lost.ends_with("unless node b comes back with its region"))
        );
        assert!(
            hope["next"].as_str().is_some_and(|next| next.contains("journal replay")),
            "{hope}"
        );

        let replayed = tell(&some, None, true);
        assert_eq!(replayed["held"], "3:90");
        assert!(replayed["lost"].as_str().is_some_and(|lost| lost.contains("after 3:90")));
        assert!(
            !replayed["next"].as_str().is_some_and(|next| next.contains("journal")),
            "{replayed}"
        );
    }
}
