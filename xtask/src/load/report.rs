//! Figures side by side: on the screen, and as a table in `docs/performance.md`.

use std::fs;

use test_support::binaries::workspace;

/// Where the table stands in the page.
const BEGIN: &str = "<!-- figures -->\n";
const END: &str = "<!-- end of figures -->\n";

/// What a figure is in, and thereby which side of it is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Items per second: more is better.
    PerSecond,
    /// CPU seconds of the whole server per 1,000 items: less is better.
    Cpu,
    /// KiB of memory per item: less is better.
    Kib,
    /// Milliseconds: less is better.
    Milliseconds,
}

/// One figure of a row, with the factors by which ours should be better.
#[derive(Debug, Clone, Copy)]
pub struct Metric {
    pub name: &'static str,
    pub unit: Unit,
    /// What must be reached; none where no target was set.
    pub first: Option<f64>,
    /// Where we want to be.
    pub goal: Option<f64>,
}

/// A figure with both targets.
pub const fn metric(name: &'static str, unit: Unit, first: f64, goal: f64) -> Metric {
    Metric { name, unit, first: Some(first), goal: Some(goal) }
}

/// A figure without a target.
pub const fn shown(name: &'static str, unit: Unit) -> Metric {
    Metric { name, unit, first: None, goal: None }
}

/// A row with its medians.
pub struct Outcome {
    name: &'static str,
    figures: Vec<(Metric, f64, Option<f64>)>,
}

impl Outcome {
    pub fn new(name: &'static str, metrics: &[Metric], ours: &[Vec<f64>], theirs: &[Vec<f64>]) -> Self {
        let figures = metrics
            .iter()
            .enumerate()
            .map(|(at, metric)| (*metric, median(ours, at).unwrap_or(f64::NAN), median(theirs, at)));
        Self { name, figures: figures.collect() }
    }

    /// Prints the row.
    pub fn show(&self) {
        println!("{}", self.name);
        for (metric, ours, theirs) in &self.figures {
            let Some(theirs) = theirs else {
                println!("  {:34} {:>12}   (no reference)", metric.name, value(*ours));
                continue;
            };
            let factor = metric.better_by(*ours, *theirs);
            println!(
                "  {:34} {:>12} {:>12} {factor:>8.2}x {}",
                metric.name,
                value(*ours),
                value(*theirs),
                metric.verdict(factor)
            );
        }
    }

    fn table(&self) -> String {
        let line = |(metric, ours, theirs): &(Metric, f64, Option<f64>)| {
            let factor = theirs.map(|theirs| metric.better_by(*ours, theirs));
            let shown = |of: Option<f64>| of.map_or_else(|| "-".to_owned(), value);
            let target = |of: Option<f64>| of.map_or_else(|| "-".to_owned(), |factor| format!("{factor}x"));
            format!(
                "| {} | {} | {} | {} | {} | {} | {} | {} |\n",
                self.name,
                metric.name,
                value(*ours),
                shown(*theirs),
                factor.map_or_else(|| "-".to_owned(), |factor| format!("{factor:.2}x")),
                target(metric.first),
                target(metric.goal),
                factor.map_or("", |factor| metric.verdict(factor))
            )
        };
        self.figures.iter().map(line).collect()
    }
}

impl Metric {
    /// The factor by which ours is better; below 1 it is worse.
    fn better_by(&self, ours: f64, theirs: f64) -> f64 {
        match self.unit {
            Unit::PerSecond => ours / theirs,
            Unit::Cpu | Unit::Kib | Unit::Milliseconds => theirs / ours,
        }
    }

    fn verdict(&self, factor: f64) -> &'static str {
        match (self.first, self.goal) {
            (_, Some(goal)) if factor >= goal => "goal",
            (Some(first), _) if factor >= first => "first",
            (Some(_), _) => "missed",
            (None, _) => "",
        }
    }
}

/// Replaces the table in the page.
pub fn write(scale: &str, outcomes: &[Outcome]) -> Result<(), String> {
    let path = workspace().join("docs/performance.md");
    let page = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let (before, rest) = page.split_once(BEGIN).ok_or("docs/performance.md: no mark for the figures")?;
    let (_, after) = rest.split_once(END).ok_or("docs/performance.md: no mark behind the figures")?;
    let head = "| job | figure | ours | reference | better by | first | goal | reached |\n| --- | --- | --- | --- | --- | --- | --- | --- |\n";
    let table: String = outcomes.iter().map(Outcome::table).collect();
    let page = format!("{before}{BEGIN}{scale}.\n\n{head}{table}{END}{after}");
    fs::write(&path, page).map_err(|error| format!("{}: {error}", path.display()))
}

fn median(rounds: &[Vec<f64>], at: usize) -> Option<f64> {
    let mut values: Vec<f64> = rounds.iter().filter_map(|round| round.get(at).copied()).collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

/// Three figures that matter, whatever the size.
fn value(of: f64) -> String {
    match of {
        _ if of >= 100.0 => format!("{of:.0}"),
        _ if of >= 1.0 => format!("{of:.1}"),
        _ => format!("{of:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn less_is_better_for_costs_and_more_for_rates() {
        let (rate, cost) = (metric("rate", Unit::PerSecond, 2.0, 3.0), metric("cost", Unit::Cpu, 2.0, 4.0));
        assert_eq!(rate.verdict(rate.better_by(300.0, 100.0)), "goal");
        assert_eq!(cost.verdict(cost.better_by(1.0, 3.0)), "first");
        assert_eq!(cost.verdict(cost.better_by(3.0, 1.0)), "missed");
    }

    #[test]
    fn the_median_ignores_one_bad_round() {
        assert_eq!(median(&[vec![1.0], vec![100.0], vec![2.0]], 0), Some(2.0));
        assert_eq!(median(&[], 0), None);
    }
}
