//! Language and colour: from flags, then the environment.

use std::ffi::OsString;
use std::io::IsTerminal;
use std::sync::OnceLock;
use whydrop_model::{Lang, Text};

static LANG: OnceLock<Lang> = OnceLock::new();

/// Fixes the language of this run. The first call counts.
pub fn set_lang(lang: Lang) {
    LANG.get_or_init(|| lang);
}

/// The language of this run.
pub fn lang() -> Lang {
    LANG.get().copied().unwrap_or_default()
}

/// A text in the language of this run, for help texts, which clap asks for while it is being built.
pub fn say(text: Text) -> &'static str {
    text.get(lang())
}

/// Language from the command line and the environment: `--lang`, WHYDROP_LANG, LC_ALL, LC_MESSAGES, LANG; the first
/// that is set and not empty decides, of several flags the last. The command line is looked at before clap is, since help texts depend on it.
pub fn early_lang(args: impl Iterator<Item = OsString>, env: impl Fn(&str) -> Option<String>) -> Lang {
    let args: Vec<String> = args.take_while(|a| a != "--").filter_map(|a| a.into_string().ok()).collect();
    let flag = args.iter().enumerate().rev().find_map(|(i, arg)| match arg.strip_prefix("--lang") {
        Some("") => args.get(i + 1).cloned(),
        Some(rest) => rest.strip_prefix('=').map(str::to_owned),
        None => None,
    });
    let names = ["WHYDROP_LANG", "LC_ALL", "LC_MESSAGES", "LANG"];
    let word = flag.or_else(|| names.iter().find_map(|n| env(n).filter(|v| !v.is_empty())));
    if word.is_some_and(|w| w.to_ascii_lowercase().starts_with("zh")) { Lang::Zh } else { Lang::En }
}

/// When to colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Colour {
    /// On a terminal, unless NO_COLOR or TERM=dumb say no.
    Auto,
    /// Always, NO_COLOR or not.
    Always,
    /// Never.
    Never,
}

impl Colour {
    /// Decides for stdout.
    pub fn stdout(self) -> bool {
        let set = |name: &str| std::env::var_os(name).is_some_and(|v| !v.is_empty());
        match self {
            Self::Always => true,
            Self::Never => false,
            Self::Auto if set("CLICOLOR_FORCE") => true,
            Self::Auto => {
                let dumb = std::env::var_os("TERM").is_none_or(|t| t == "dumb");
                std::io::stdout().is_terminal() && !set("NO_COLOR") && !dumb
            }
        }
    }
}

/// True if sentences are wanted instead of columns and bars (screen readers): `--plain`, NO_GRAPHICS or ACCESSIBLE.
pub fn plain(flag: bool) -> bool {
    flag || ["NO_GRAPHICS", "ACCESSIBLE"].iter().any(|n| std::env::var_os(n).is_some_and(|v| !v.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lang(args: &[&str], env: &[(&str, &str)]) -> Lang {
        early_lang(args.iter().map(OsString::from), |name| {
            env.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned())
        })
    }

    #[test]
    fn precedence_of_languages() {
        assert_eq!(lang(&[], &[]), Lang::En);
        assert_eq!(lang(&[], &[("LANG", "zh_CN.UTF-8")]), Lang::Zh);
        assert_eq!(lang(&[], &[("LANG", "zh_CN.UTF-8"), ("LC_ALL", "C")]), Lang::En);
        assert_eq!(lang(&[], &[("LC_ALL", ""), ("LANG", "zh")]), Lang::Zh);
        assert_eq!(lang(&[], &[("WHYDROP_LANG", "en"), ("LC_ALL", "zh_TW")]), Lang::En);
        assert_eq!(lang(&["diagnose", "--lang", "zh"], &[("WHYDROP_LANG", "en")]), Lang::Zh);
        assert_eq!(lang(&["--lang=en"], &[("LANG", "zh")]), Lang::En);
        assert_eq!(lang(&["--lang=en", "--lang", "zh"], &[]), Lang::Zh);
        assert_eq!(lang(&["--", "--lang=zh"], &[]), Lang::En);
    }
}
