//! The words of source code, and the paths of modules that they make up.

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// A word or sign of code, with its line. `::` is one word. Comments and strings are none.
pub(super) struct Word {
    pub(super) text: String,
    pub(super) line: usize,
}

/// The words of a file, without those that are compiled for tests only.
pub(super) fn words(tokens: TokenStream) -> Vec<Word> {
    let mut words: Vec<Word> = Vec::new();
    let mut tokens = tokens.into_iter().peekable();
    while let Some(token) = tokens.next() {
        if token.to_string() == "#" && tokens.peek().is_some_and(is_for_tests) {
            while tokens.next().is_some_and(|token| !ends_item(&token)) {}
            continue;
        }
        let line = token.span().start().line;
        let text = match token {
            TokenTree::Group(group) => {
                let (open, close) = match group.delimiter() {
                    Delimiter::Brace => ("{", "}"),
                    _ => ("(", ")"),
                };
                words.push(Word { text: open.to_owned(), line });
                words.extend(self::words(group.stream()));
                words.push(Word { text: close.to_owned(), line: group.span_close().start().line });
                continue;
            }
            TokenTree::Punct(sign)
                if sign.as_char() == ':' && words.last().is_some_and(|word| word.text == ":") =>
            {
                words.pop();
                "::".to_owned()
            }
            TokenTree::Literal(_) => "literal".to_owned(),
            TokenTree::Ident(_) | TokenTree::Punct(_) => token.to_string(),
        };
        words.push(Word { text, line });
    }
    words
}

fn is_for_tests(attribute: &TokenTree) -> bool {
    let text = attribute.to_string().replace(' ', "");
    text.starts_with("[cfg(test)") || text.starts_with("[cfg(all(test,")
}

fn ends_item(token: &TokenTree) -> bool {
    match token {
        TokenTree::Group(group) => group.delimiter() == Delimiter::Brace,
        other => other.to_string() == ";",
    }
}

/// How many modules a file is below the crate's root.
fn depth_of(path: &str) -> usize {
    path.split('/').filter(|part| *part != "mod.rs").count()
}

/// The first two parts of every path that goes out from the crate's root, with its line: `wire::encode`. `names` are the
/// root's own.
pub(super) fn paths_from_root(names: &[&str], path: &str, words: &[Word]) -> Vec<(String, usize)> {
    let mut found = Vec::new();
    for (at, word) in words.iter().enumerate() {
        let starts = at == 0 || words[at - 1].text != "::";
        let roots = match word.text.as_str() {
            name if starts && names.contains(&name) => 1,
            "super" if starts => depth_of(path),
            _ => continue,
        };
        // `super` leads to the root if it is said as often as the file is deep.
        let root = words[at..].chunks(2).take(roots);
        let climbs =
            root.clone().all(|step| step.len() == 2 && step[0].text == word.text && step[1].text == "::");
        if climbs {
            add_tree(&words[at + 2 * roots..], "", &mut found);
        }
    }
    found
}

/// Adds the paths of a use tree, or of a plain path, which is one without branches.
fn add_tree(words: &[Word], prefix: &str, found: &mut Vec<(String, usize)>) {
    let Some(first) = words.first() else { return };
    if first.text == "{" {
        let mut depth = 0;
        for (at, word) in words.iter().enumerate() {
            match word.text.as_str() {
                "{" => depth += 1,
                "}" => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                return;
            }
            if depth == 1 && matches!(word.text.as_str(), "{" | ",") && words[at + 1].text != "}" {
                add_tree(&words[at + 1..], prefix, found);
            }
        }
    } else if prefix.is_empty() && words.get(1).is_some_and(|word| word.text == "::") {
        add_tree(&words[2..], &first.text, found);
    } else {
        let place = if prefix.is_empty() { first.text.clone() } else { format!("{prefix}::{}", first.text) };
        found.push((place, first.line));
    }
}
