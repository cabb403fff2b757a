//! Values of every kind, out of texts.

use alloc::{
    borrow::ToOwned,
    format,
    string::{String, ToString},
    vec::Vec,
};

use super::SettingError;
use crate::token::{Secret, Tokens};

/// Reads one setting after the other, and remembers what was wrong. What it returns after an error is never used.
pub(super) struct Reader<G> {
    pub(super) get: G,
    pub(super) errors: Vec<SettingError>,
}

impl<G: Fn(&str) -> Option<String>> Reader<G> {
    /// A time limit, or none.
    pub(super) fn seconds(&mut self, name: &'static str, default: u64) -> Option<u64> {
        const DAY: u64 = 86_400;
        Some(self.number(name, default, DAY)).filter(|seconds| *seconds > 0)
    }

    pub(super) fn number(&mut self, name: &'static str, default: u64, max: u64) -> u64 {
        match self.text(name).map(|text| text.parse::<u64>()) {
            None => default,
            Some(Ok(number)) if number <= max => number,
            Some(_) => {
                self.wrong(name, &format!("must be a whole number from 0 to {max}"));
                default
            }
        }
    }

    /// How many connections there may be, if the setting says so.
    pub(super) fn connections(&mut self, name: &'static str) -> Option<u32> {
        const MOST: u32 = 1_000_000;
        let text = self.text(name)?;
        let most = text.parse().ok().filter(|most| (1..=MOST).contains(most));
        if most.is_none() {
            self.wrong(name, &format!("must be a whole number from 1 to {MOST}"));
        }
        most
    }

    pub(super) fn boolean(&mut self, name: &'static str, default: bool) -> bool {
        let Some(text) = self.text(name) else { return default };
        match text.to_ascii_lowercase().as_str() {
            "1" | "true" | "yes" | "on" => true,
            "0" | "false" | "no" | "off" => false,
            _ => {
                self.wrong(name, "must be one of 1, true, yes, on, 0, false, no, off");
                default
            }
        }
    }

    /// One of a few words. Without a value, and after an error, it is `default`.
    pub(super) fn choice<T: Copy>(&mut self, name: &'static str, default: T, choices: &[(&'static str, T)]) -> T {
        let Some(text) = self.text(name) else { return default };
        if let Some((_, choice)) = choices.iter().find(|(choice, _)| *choice == text) {
            return *choice;
        }
        let known: Vec<&str> = choices.iter().map(|(choice, _)| *choice).collect();
        self.wrong(name, &format!("`{}` is none of {}", text.escape_debug(), known.join(", ")));
        default
    }

    pub(super) fn list(&self, name: &'static str) -> Vec<String> {
        let text = self.text(name).unwrap_or_default();
        text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(ToString::to_string).collect()
    }

    /// A token that a client has to send in a header.
    pub(super) fn secret(&mut self, name: &'static str) -> Option<Secret> {
        let token = self.text(name)?;
        if let Err(error) = Tokens::single(&token) {
            self.wrong(name, &error.to_string());
        }
        Some(Secret::new(token))
    }

    pub(super) fn text(&self, name: &str) -> Option<String> {
        let text = (self.get)(name)?;
        let trimmed = text.trim();
        (!trimmed.is_empty()).then(|| trimmed.to_owned())
    }

    pub(super) fn wrong(&mut self, name: &'static str, problem: &str) {
        self.errors.push(SettingError { name, problem: problem.to_owned() });
    }
}
