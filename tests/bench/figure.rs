//! What was measured, beside what is asked of it.

use serde::Serialize;

/// One number.
#[derive(Debug, Clone, Serialize)]
pub struct Figure {
    part: &'static str,
    what: String,
    value: f64,
    unit: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    asked: Option<Asked>,
}

#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
enum Asked {
    AtLeast(f64),
    AtMost(f64),
    /// Anything else is a fault.
    Exactly(f64),
}

impl Figure {
    pub fn new(part: &'static str, what: impl Into<String>, value: f64, unit: &'static str) -> Self {
        Self { part, what: what.into(), value, unit, asked: None }
    }

    pub fn at_least(self, asked: f64) -> Self {
        Self { asked: Some(Asked::AtLeast(asked)), ..self }
    }

    pub fn at_most(self, asked: f64) -> Self {
        Self { asked: Some(Asked::AtMost(asked)), ..self }
    }

    pub fn exactly(self, asked: f64) -> Self {
        Self { asked: Some(Asked::Exactly(asked)), ..self }
    }

    fn is_met(&self) -> bool {
        match self.asked {
            Some(Asked::AtLeast(asked)) => self.value >= asked,
            Some(Asked::AtMost(asked)) => self.value <= asked,
            Some(Asked::Exactly(asked)) => self.value == asked,
            None => true,
        }
    }

    /// Whether something is wrong, not only slow.
    pub fn is_fault(&self) -> bool {
        matches!(self.asked, Some(Asked::Exactly(_))) && !self.is_met()
    }

    pub fn print(&self) {
        let asked = match self.asked {
            Some(Asked::AtLeast(asked)) => format!(">= {}", short(asked)),
            Some(Asked::AtMost(asked)) => format!("<= {}", short(asked)),
            Some(Asked::Exactly(asked)) => format!("= {}", short(asked)),
            None => String::new(),
        };
        let verdict = if self.is_met() { "" } else { "missed" };
        let Self { part, what, value, unit, .. } = self;
        println!("{part:<13} {what:<58} {:>10} {unit:<9} {asked:>11} {verdict}", short(*value));
    }
}

/// What stands above them.
pub fn print_head() {
    println!("{:<13} {:<58} {:>10} {:<9} {:>11}", "part", "figure", "value", "", "asked");
}

/// As many digits as say something.
fn short(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        100.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// The one in the middle.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
