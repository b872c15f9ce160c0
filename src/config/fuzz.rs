//! Entry point of the fuzz target: any text in, a configuration or what is wrong with it out.

use super::Config;

/// A configuration file.
pub fn config(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    match Config::parse(text) {
        Ok(config) => assert!(config.check().is_empty(), "taken, and not sound"),
        Err(problems) => {
            let lines = text.lines().count().max(1);
            assert!(!problems.is_empty(), "refused for nothing");
            assert!(problems.iter().all(|problem| problem.line.is_none_or(|line| (1..=lines + 1).contains(&line))));
        }
    }
}
