//! The results as Markdown with plots beside it: what stands in the repository.

use std::fmt::Write;
use std::path::Path;

use super::Ran;
use super::figures::{histogram, ms};
use super::findings::timed;
use super::html::{MEANINGS, outages, timeline, title, worst};
use super::machine::Machine;
use super::plot::distribution;
use crate::report::Failure;

/// Writes FILE.md, and FILE/NAME.svg for each fault that was repeated.
pub(super) fn write(all: &[Ran], machine: &Machine, path: &Path) -> Result<(), Failure> {
    let plots = path.with_extension("");
    for ran in all.iter().filter(|ran| is_measured(ran)) {
        if let Some(plot) = distribution(&title(ran), &outages(ran), ran.scenario.bar) {
            super::write(&plots.join(format!("{}.svg", ran.name)), &plot)?;
        }
    }
    let directory = plots.file_name().unwrap_or_default().to_string_lossy().into_owned();
    super::write(path, &text(all, machine, &directory))
}

/// One run has no distribution.
fn is_measured(ran: &Ran) -> bool {
    ran.runs.len() > 1
}

fn text(all: &[Ran], machine: &Machine, plots: &str) -> String {
    let mut text = format!(
        "# Results of failovers between hosts\n\n\
         Written by `hotpair lab run`; [testing.md](testing.md#the-lab) says how. {}.\n\n\
         *Again* is the time from the fault until the other node answers. The *outage* is the longest time that a client of 1,000 \
         requests a second was without any answer until the pair was whole again, whatever caused it. Bars are what is aimed at on two shared cores.\n\n\
         | fault | runs | again p50 | p99 | outage p50 | bar | p99 | bar | max | acknowledged | lost | doubled | not as expected |\n\
         |---|---|---|---|---|---|---|---|---|---|---|---|---|\n",
        machine.line()
    );
    for ran in all {
        let of = |phase: &str, quantile: f64| {
            histogram(&ran.runs, phase)
                .map_or("-".to_owned(), |values| ms(values.value_at_quantile(quantile)))
        };
        let at = |quantile: f64| of("outage", quantile);
        let bars = ran.scenario.bar.map_or(["-".to_owned(), "-".to_owned()], |bar| {
            [bar.p50.to_string(), bar.p99.to_string()]
        });
        let sum = |field: &str| -> u64 {
            ran.runs.iter().filter_map(|run| run.client[field].as_u64()).sum()
        };
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} |",
            ran.name,
            ran.runs.len(),
            of("again", 0.5),
            of("again", 0.99),
            at(0.5),
            bars[0],
            at(0.99),
            bars[1],
            at(1.0),
            sum("acked"),
            sum("lost"),
            sum("duplicated"),
            ran.wrong(),
        );
    }
    text.push_str("\nControls (`..._without_...`, `both_killed_empty`, `workers_know_one_node`, `arbiter_empty_too_soon`) must lose, or wait in vain.\n\n## Phases\n\n");
    for (phase, meaning) in MEANINGS {
        let _ = writeln!(text, "- *{phase}*: {meaning}");
    }
    for ran in all.iter().filter(|ran| is_measured(ran)) {
        let _ = write!(
            text,
            "\n## {}\n\n{}.\n\n| phase | n | p50 | p99 | max |\n|---|---|---|---|---|\n",
            ran.name, ran.scenario.goal
        );
        for phase in timed(&ran.runs) {
            let Some(histogram) = histogram(&ran.runs, &phase) else { continue };
            let _ = writeln!(
                text,
                "| {phase} | {} | {} | {} | {} |",
                histogram.len(),
                ms(histogram.value_at_quantile(0.5)),
                ms(histogram.value_at_quantile(0.99)),
                ms(histogram.max())
            );
        }
        let _ = write!(text, "\n![{}]({plots}/{}.svg)\n", title(ran), ran.name);
        if let Some(worst) = worst(&ran.runs) {
            let _ = write!(text, "\nThe worst run:\n\n```text\n{}```\n", timeline(worst));
        }
    }
    let points: Vec<(&str, String)> = all
        .iter()
        .filter(|ran| ran.scenario.step.iter().any(|step| !step.then.is_empty()))
        .flat_map(|ran| ran.runs.iter().filter_map(|run| Some((ran.name.as_str(), run.point()?))))
        .collect();
    if !points.is_empty() {
        text.push_str("\n## Points hit\n\nWhere faults fell that were aimed at an instant:\n\n");
        for (name, point) in points {
            let _ = writeln!(text, "- {name}: {point}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::figures::tests::ran;
    use crate::lab::machine;

    #[test]
    fn results_have_a_row_and_a_plot_for_each_fault() {
        let machine = machine::describe();
        let text = text(&[ran()], &machine, "plots");
        for part in ["| some_fault | 2 | 12.0", "plots/some_fault.svg", &machine.line()] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}
