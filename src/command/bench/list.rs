//! `hotpair bench list`: what can be measured.

use hotpair_perf::{Bench, registry};
use serde_json::{Value, json};

use crate::exit::Exit;
use crate::report::{Outcome, print_data, print_json};

pub(super) fn run(as_json: bool) -> Outcome {
    if as_json {
        let benches: Vec<Value> = registry().iter().map(json).collect();
        print_json(&Value::Array(benches))?;
        return Ok(Exit::Ok);
    }
    for bench in registry() {
        print_data(&text(bench))?;
    }
    Ok(Exit::Ok)
}

fn json(bench: &Bench) -> Value {
    let forms: Vec<Value> =
        bench.forms.iter().map(|form| json!({"flags": form.flags, "quick": form.quick})).collect();
    json!({
        "name": bench.name, "question": bench.question, "method": bench.method,
        "limit": bench.limit, "peer": bench.peer, "unit": bench.unit, "forms": forms,
    })
}

fn text(bench: &Bench) -> String {
    let mut text = format!("{:<14} {} [{}]\n", bench.name, bench.question, bench.unit);
    let limit = Some(("limit", bench.limit)).filter(|(_, limit)| *limit != "none");
    for (name, what) in limit.into_iter().chain(bench.peer.map(|peer| ("peer", peer))) {
        text.push_str(&format!("{:<14}   {name}: {what}\n", ""));
    }
    text
}
