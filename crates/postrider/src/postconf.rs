//! `postconf`: what main.cf and master.cf say, and the defaults of what they do not; changes in both.
//!
//! The files are read without types, so that a wrong value can be looked at and mended; `postrider check` judges values.

mod edit;
mod edit_master;
mod entry;
mod files;
mod print;
mod show;

use std::ffi::OsString;

use mail_config::main_cf::names::Class;
use mail_tables::TableKind;

use self::edit::{Edit, Edits};
use self::files::Files;
use self::print::Look;
use self::show::Choice;
use crate::arguments::{Grammar, Parsed};
use crate::exit::{Failure, Outcome, UNAVAILABLE};
use crate::rewrite::rewrite;
use crate::terminal::{complain, print};

const GRAMMAR: Grammar = Grammar::letters("aAbc:C:deEfFhHjlmMno:pPtT:vxX#");

/// Options of which one excludes the others.
const EXCLUSIVE: [&str; 4] = ["aAbdelmMnFPpt#X", "hH", "e#Xnd", "MFPnd"];

/// Runs the command.
///
/// # Errors
/// Wrong options and files (1), what is not built (69).
pub fn run(arguments: &[OsString]) -> Outcome {
    let parsed = GRAMMAR.parse(arguments).map_err(|error| Failure::usage(error.to_string()))?;
    if let Some(given) = parsed.options.iter().find(|given| "bt".contains(given.option)) {
        return Err(Failure::new(
            UNAVAILABLE,
            format!("-{}: bounce templates are not built; notices have our own text", given.option),
        ));
    }
    exclude(&parsed)?;
    if let Some(text) = facts(&parsed)? {
        print(&text)?;
        return Ok(0);
    }
    match edit_option(&parsed)? {
        Some(option) => edit_files(&parsed, option),
        None => show_files(&parsed),
    }
}

/// Refuses options that contradict each other.
fn exclude(parsed: &Parsed) -> Result<(), Failure> {
    for group in EXCLUSIVE {
        let given: Vec<char> = group.chars().filter(|option| parsed.has(*option)).collect();
        // An edit may be of master.cf.
        let is_edit = |option: &char| "e#X".contains(*option);
        let is_of_master = |option: &char| "MFP".contains(*option);
        if let [first, second, ..] = given.as_slice()
            && !(is_edit(first) && is_of_master(second) || is_of_master(first) && is_edit(second))
        {
            return Err(Failure::usage(format!("specify one of -{first} -{second}")));
        }
    }
    for (mode, refused) in [('M', "hH"), ('F', "#X"), ('P', "#")] {
        if let Some(option) = refused.chars().find(|option| parsed.has(mode) && parsed.has(*option)) {
            return Err(Failure::usage(format!("with option -{mode}, do not specify -{option}")));
        }
    }
    Ok(())
}

/// What is about the program and not about its files.
fn facts(parsed: &Parsed) -> Result<Option<String>, Failure> {
    let words: Vec<&str> = if parsed.has('m') {
        let mut types: Vec<&str> = TableKind::names().collect();
        types.sort_unstable();
        types
    } else if parsed.has('l') {
        vec!["flock", "fcntl", "dotlock"]
    } else if parsed.has('a') {
        vec!["dovecot"]
    } else if parsed.has('A') {
        vec!["cyrus"]
    } else if let Some(mode) = parsed.last('T') {
        match mode.to_str() {
            Some("compile-version" | "run-version") => vec!["rustls 0.23"],
            Some("public-key-algorithms") => vec!["rsa", "ecdsa", "ed25519"],
            _ => return Err(Failure::usage(format!("bad mode: {}", mode.to_string_lossy()))),
        }
    } else {
        return Ok(None);
    };
    Ok(Some(words.join("\n") + "\n"))
}

/// Which edit the command line asks for: `e`, `#` or `X`; `NAME=VALUE` without any option is one too.
fn edit_option(parsed: &Parsed) -> Result<Option<char>, Failure> {
    let assigns = parsed.operands.iter().any(|operand| operand.to_string_lossy().contains('='));
    let option = match "e#X".chars().find(|option| parsed.has(*option)) {
        Some(option) => option,
        None if assigns => 'e',
        None => return Ok(None),
    };
    if let Some(other) = parsed.options.iter().find(|given| "dnxhHfpj".contains(given.option)) {
        return Err(Failure::usage(format!("specify one of -{option} -{}", other.option)));
    }
    if parsed.operands.is_empty() {
        let argument = if option == 'e' { "name=value" } else { "name" };
        return Err(Failure::usage(format!("-{option} requires {argument} argument")));
    }
    Ok(Some(option))
}

/// The operands as text.
fn words(parsed: &Parsed) -> Result<Vec<&str>, Failure> {
    let text = |operand: &'_ OsString| operand.to_str().map(str::to_owned);
    if parsed.operands.iter().any(|operand| text(operand).is_none()) {
        return Err(Failure::usage("an operand is not UTF-8 text"));
    }
    Ok(parsed.operands.iter().filter_map(|operand| operand.to_str()).collect())
}

fn edit_files(parsed: &Parsed, option: char) -> Outcome {
    let directory = crate::system::directory(parsed.last('c'));
    let words = words(parsed)?;
    let Some(mode) = "MFP".chars().find(|mode| parsed.has(*mode)) else {
        let edit = |word: &str| match option {
            'X' => edit::name(word, Edit::Remove),
            '#' => edit::name(word, Edit::Comment),
            _ => edit::assignment(word),
        };
        let edits = words.into_iter().map(edit).collect::<Result<Edits, _>>()?;
        rewrite(&directory.join("main.cf"), |text| Some(edit::edited(text, &edits)))?;
        return Ok(0);
    };
    let edits = words.into_iter().map(|word| edit_master::edit(mode, option, word)).collect::<Result<Vec<_>, _>>()?;
    let raw = Files::main(&directory)?;
    let mut outcome = Ok(Vec::new());
    rewrite(&directory.join("master.cf"), |text| match edit_master::edited(text, &edits, &raw) {
        Ok((text, warnings)) => {
            outcome = Ok(warnings);
            Some(text)
        }
        Err(failure) => {
            outcome = Err(failure);
            None
        }
    })?;
    for warning in outcome? {
        complain(&format!("postconf: warning: {warning}"));
    }
    Ok(0)
}

fn show_files(parsed: &Parsed) -> Outcome {
    let directory = crate::system::directory(parsed.last('c'));
    let look = Look {
        values_only: parsed.has('h'),
        names_only: parsed.has('H'),
        expanded: parsed.has('x'),
        folded: parsed.has('f'),
        json: parsed.has('j'),
    };
    let choice = Choice { defaults: parsed.has('d'), written: parsed.has('n'), classes: classes(parsed)? };
    let mut files = Files::read(&directory, choice.defaults)?;
    for given in parsed.options.iter().filter(|given| given.option == 'o') {
        files.set(&given.argument.clone().unwrap_or_default().to_string_lossy())?;
    }
    let words = words(parsed)?;
    let mode = "MFP".chars().find(|mode| parsed.has(*mode));
    if mode.is_some() && files.master.is_none() {
        return Err(Failure::usage(format!(
            "open {}: No such file or directory",
            directory.join("master.cf").display()
        )));
    }
    let (text, unmatched) = match mode {
        Some('M') => show::entries(&files, &words, look),
        Some('F') => show::fields(&files, &words, look)?,
        Some(_) => show::overrides(&files, &words, look),
        None => show::parameters(&files, &words, look, &choice)?,
    };
    print(&text)?;
    let warnings = if choice.defaults { Vec::new() } else { files.warnings(mode.is_none()) };
    for warning in unmatched.into_iter().chain(warnings) {
        complain(&format!("postconf: warning: {warning}"));
    }
    Ok(0)
}

/// `-C class,...`; all classes without it.
fn classes(parsed: &Parsed) -> Result<Vec<Class>, Failure> {
    let all = vec![Class::Builtin, Class::Service, Class::User];
    let Some(text) = parsed.last('C') else { return Ok(all) };
    let text = text.to_string_lossy();
    let mut classes = Vec::new();
    for word in text.split([',', ' ']).filter(|word| !word.is_empty()) {
        match word {
            "builtin" => classes.push(Class::Builtin),
            "service" => classes.push(Class::Service),
            "user" => classes.push(Class::User),
            "all" => return Ok(all),
            _ => return Err(Failure::usage(format!("unknown -C option value \"{word}\" in \"{text}\""))),
        }
    }
    Ok(classes)
}
