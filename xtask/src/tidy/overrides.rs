//! Rule for overrides of recipe keys (`lm.width=96`) in help and documents: a recipe must accept them.

use std::fs;
use std::sync::LazyLock;

use clap::{CommandFactory, Parser};
use latentlm_args::{ArgsError, Project};

use super::{assert_none, text_files};
use crate::cargo::project_root;
use crate::{Cli, Command};

/// The log is not checked: it records commands of earlier versions, whose recipes had other keys.
const LOG: &str = "docs/log.md";

/// The commands that take overrides, told from the table of commands.
static COMMANDS: LazyLock<Vec<String>> = LazyLock::new(|| {
    let mut found = Vec::new();
    add_commands(&Cli::command(), "", &mut found);
    found
});

/// Adds the subcommands that take overrides to `found`, with the names of the commands that they are part of.
fn add_commands(command: &clap::Command, before: &str, found: &mut Vec<String>) {
    for child in command.get_subcommands() {
        let name = format!("{before}{}", child.get_name());
        if child
            .get_arguments()
            .any(|argument| argument.get_id() == "overrides")
        {
            found.push(name.clone());
        }
        add_commands(child, &format!("{name} "), found);
    }
}

/// The command in a line, if it takes overrides.
fn command_in(line: &str) -> Option<&'static str> {
    let mut names = COMMANDS.iter().map(String::as_str);
    names.find(|name| line.contains(name))
}

/// The overrides in a line. A key without a dot counts only if the line has a command: `a=b` may be anything.
fn overrides_in(line: &str) -> Vec<&str> {
    let mut found = Vec::new();
    for word in line.split(|c: char| c.is_whitespace() || c == '`') {
        let word = word.trim_start_matches('(');
        let word = word.trim_end_matches([',', ';', ')']);
        let Some((key, _)) = word.split_once('=') else {
            continue;
        };
        let in_key = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '.' || c == '_';
        let is_key = key.starts_with(|c: char| c.is_ascii_lowercase()) && key.chars().all(in_key);
        if is_key && (key.contains('.') || command_in(line).is_some()) {
            found.push(word);
        }
    }
    found
}

/// The reason why an override is refused, by the recipe of a command or, without one, by all recipes. `None` if
/// it is accepted.
fn refusal(command: Option<&str>, word: &str) -> Option<String> {
    let project = Project::at(project_root());
    let commands = match command {
        Some(command) => vec![command],
        None => COMMANDS.iter().map(String::as_str).collect(),
    };
    let mut reason = None;
    for command in commands {
        let words = ["cargo xtask"].into_iter();
        let words = words.chain(command.split(' ')).chain([word]);
        let Ok(Cli {
            command: Command::Latent(parsed),
        }) = Cli::try_parse_from(words)
        else {
            return Some(format!("`{command}` takes no overrides"));
        };
        match parsed.check_recipe(&project) {
            // Paths in examples need not exist.
            Ok(()) | Err(ArgsError::Io { .. }) => return None,
            Err(error) => {
                reason.get_or_insert(error.to_string());
            }
        }
    }
    reason
}

/// The refused overrides in a text, each as `place:line: reason`.
fn refused_in(place: &str, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        for word in overrides_in(line) {
            if let Some(reason) = refusal(command_in(line), word) {
                found.push(format!("{place}:{number}: {reason}"));
            }
        }
    }
    found
}

/// Adds the help of a command and of all its subcommands to `found`, with their names.
fn add_help(command: &clap::Command, found: &mut Vec<(String, String)>) {
    let help = command.clone().render_long_help().to_string();
    found.push((format!("help of {}", command.get_name()), help));
    for child in command.get_subcommands() {
        add_help(child, found);
    }
}

#[test]
fn recipes_accept_the_overrides_in_documents_and_help() {
    let mut texts = Vec::new();
    add_help(&Cli::command(), &mut texts);
    for name in ["README.md", "CONTRIBUTING.md"] {
        let text = fs::read_to_string(project_root().join(name)).unwrap();
        texts.push((name.to_owned(), text));
    }
    for file in text_files("docs") {
        if file.has_extension("md") && file.name != LOG {
            texts.push((file.name, file.text));
        }
    }
    let lines = texts.iter().flat_map(|(_, text)| text.lines());
    let count: usize = lines.map(|line| overrides_in(line).len()).sum();
    assert!(count >= 20, "only {count} overrides were found");
    let mut violations = Vec::new();
    for (place, text) in &texts {
        violations.extend(refused_in(place, text));
    }
    assert_none("overrides in documents and help fit a recipe", &violations);
}

#[test]
fn wrong_overrides_are_found() {
    let text = "\
Not an override: `x=1`, `A.B=1`, `--limit=2`, https://a.b/c?d=1.
Keys such as (`lm.width=64`, `text.data=`), and a misspelt one, `lm.widht=64`.
cargo xtask train-image lm.width=0 codec.vit.heads=8 data.path=path/to/pictures
cargo xtask train-tts codec.vit.heads=8
cargo xtask compare sigma noise_stds=[0.25,0.75] image.lm_train.steps=600 seed=1";
    let found = refused_in("a.md", text);
    let expected = [
        "a.md:2: override `lm.widht=64`: unknown key `lm.widht`; did you mean `lm.width`?",
        "a.md:3: override `lm.width=0`: `lm.width` must be a whole number from 1 to",
        "a.md:4: override `codec.vit.heads=8`: unknown key `codec.vit`",
        "a.md:5: override `seed=1`: unknown key `seed`",
    ];
    assert_eq!(found.len(), expected.len(), "{found:?}");
    for (found, start) in found.iter().zip(expected) {
        assert!(found.starts_with(start), "{found}");
    }
}
