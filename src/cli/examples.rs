//! Examples of commands, each shown where it is looked for.

use clap::Command;

/// Shows the examples that stand below a command's help below the help of each of its commands,
/// too, as far as they are of it and it has none of its own. `path` is how the command is written.
pub(super) fn hand_down(command: Command, path: &str) -> Command {
    let above = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    command.mut_subcommands(|below| {
        let path = format!("{path} {}", below.get_name());
        let examples = examples_of(&above, &path);
        let below = if below.get_after_help().is_none() && !examples.is_empty() {
            below.after_help(format!("Examples:{examples}"))
        } else {
            below
        };
        hand_down(below, &path)
    })
}

/// The lines of a text that show how a command is used, each after a line's end.
fn examples_of(text: &str, path: &str) -> String {
    let is_of = |line: &&str| {
        let rest = line.trim_start().strip_prefix(path);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
    };
    text.lines().filter(is_of).map(|line| format!("\n{line}")).collect()
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::cli::Arguments;

    fn assert_shown(command: &mut Command, path: &str) {
        let help = command.render_long_help().to_string();
        let is_one = command.get_subcommands().next().is_none();
        assert!(!is_one || help.contains(&format!("\n  {path}")), "{path}: {help}");
        for below in command.get_subcommands_mut().filter(|below| below.get_name() != "help") {
            let path = format!("{path} {}", below.get_name());
            assert_shown(below, &path);
        }
    }

    #[test]
    fn every_command_shows_how_it_is_used() {
        assert_shown(&mut hand_down(Arguments::command(), "tidegate"), "tidegate");
    }
}
