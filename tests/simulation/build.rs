//! Makes a copy of the shard and the session that has every deliberate bug in it, each behind a switch.
//!
//! A bug names a function of `src/shard` or `src/session`, and gives the code that is to be wrong as a pattern of
//! tokens: white space and comments do not count, and `$name` stands for any one identifier, which the wrong code may
//! use. So a bug outlives new names of variables, new formatting and a move to another file.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::{env, fs};

use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};

/// Its name, the function that has it, the shipped code and the wrong code. The shipped code is either an expression
/// or whole statements.
type Bug = (&'static str, &'static str, &'static str, &'static str);

const BUGS: &[Bug] = &include!("bugs.in");

/// Rooms of the crate that are copied.
const COPIED: [&str; 2] = ["session", "shard"];

/// Rooms that the copied ones use as they are.
const SHIPPED: [&str; 8] = ["auth", "base", "codec", "config", "domain", "net", "stats", "transport"];

fn main() {
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let here = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR"));
    let crate_root = here.join("../../src");
    println!("cargo::rerun-if-changed=bugs.in");
    let mut files = Vec::new();
    for room in COPIED {
        println!("cargo::rerun-if-changed={}", crate_root.join(room).display());
        let paths = sources(&crate_root.join(room));
        files.extend(paths.into_iter().map(|path| Source::read(&crate_root, &path)));
    }
    for (number, bug) in BUGS.iter().enumerate() {
        put_in(&mut files, number, bug);
    }
    for file in files {
        let path = out.join(&file.path);
        fs::create_dir_all(path.parent().expect("it is in a room")).expect("OUT_DIR can be written");
        fs::write(path, of_the_copy(&file.with_its_bugs())).expect("OUT_DIR can be written");
    }
    let modules =
        COPIED.map(|room| format!("#[path = {:?}] pub mod {room};\n", out.join(room).join("mod.rs")));
    let names: Vec<_> = BUGS.iter().map(|bug| bug.0).collect();
    let list = format!("{}pub const BUGS: [&str; {}] = {names:?};\n", modules.concat(), names.len());
    fs::write(out.join("broken.rs"), list).expect("OUT_DIR can be written");
}

/// The files of a room and of its folders, but for unit tests.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("rooms are there");
    let paths = entries.map(|entry| entry.expect("rooms can be read").path());
    let paths = paths.filter(|path| path.file_stem().is_some_and(|name| name != "tests"));
    let (folders, files): (Vec<_>, Vec<_>) = paths.partition(|path| path.is_dir());
    let nested = folders.iter().flat_map(|folder| sources(folder));
    files
        .into_iter()
        .filter(|path| path.extension().is_some_and(|ending| ending == "rs"))
        .chain(nested)
        .collect()
}

/// Puts a switch for the bug where its pattern matches, which must be one place.
fn put_in(files: &mut [Source], number: usize, &(name, function, shipped, wrong): &Bug) {
    let pattern = tokens(shipped);
    let mut found = Vec::new();
    for (file, source) in files.iter().enumerate() {
        found.extend(source.places(function, &pattern).into_iter().map(|place| (file, place)));
    }
    let [(file, place)] = &found[..] else {
        panic!(
            "bug `{name}`: its code must be once in functions `{function}` of {COPIED:?}, and is {} times; adapt \
             tests/simulation/bugs.in",
            found.len()
        );
    };
    files[*file].switch(number, place, shipped, wrong);
}

/// The text of a file, fit for a module of this crate.
fn of_the_copy(text: &str) -> String {
    let text = COPIED.iter().fold(text.to_owned(), |text, room| {
        text.replace(&format!("crate::{room}"), &format!("crate::broken::{room}"))
    });
    SHIPPED
        .iter()
        .fold(text, |text, room| text.replace(&format!("crate::{room}::"), &format!("fanfare::{room}::")))
}

/// A file that is copied.
struct Source {
    /// Where it is in the crate.
    path: PathBuf,
    text: String,
    tokens: Vec<Token>,
    /// What stands in which places instead, by where these begin.
    switches: BTreeMap<usize, (Range<usize>, String)>,
}

/// Where a pattern matches: the bytes, and what its `$names` stand for.
struct Place {
    bytes: Range<usize>,
    names: Vec<(String, String)>,
}

impl Source {
    fn read(crate_root: &Path, path: &Path) -> Self {
        let text = fs::read_to_string(path).expect("sources can be read");
        let tokens = tokens(&text);
        let path = path.strip_prefix(crate_root).expect("it is in the crate").to_owned();
        Self { path, text, tokens, switches: BTreeMap::new() }
    }

    /// All places in functions of this name that the pattern matches.
    fn places(&self, function: &str, pattern: &[Token]) -> Vec<Place> {
        let bodies = (0..self.tokens.len()).filter_map(|at| self.body(at, function));
        bodies.flatten().filter_map(|at| self.place(at, pattern)).collect()
    }

    /// The tokens of the body of the function of this name that begins at a token.
    fn body(&self, at: usize, function: &str) -> Option<Range<usize>> {
        let [keyword, name, ..] = &self.tokens[at..] else { return None };
        if keyword.text != "fn" || name.text != function {
            return None;
        }
        let mut at = at + 2;
        // Patterns of parameters may have braces as well.
        while self.tokens[at].text != "{" {
            at = self.tokens[at].end.max(at + 1);
        }
        Some(at..self.tokens[at].end)
    }

    fn place(&self, at: usize, pattern: &[Token]) -> Option<Place> {
        let mut names: Vec<(String, String)> = Vec::new();
        let mut found = self.tokens[at..].iter();
        let mut wanted = pattern.iter();
        let mut last = None;
        while let Some(token) = wanted.next() {
            let here = found.next()?;
            if token.text == "$" {
                let name = &wanted.next().expect("a name behind each `$`").text;
                let known = names.iter().find(|(known, _)| known == name);
                if !here.is_identifier() || known.is_some_and(|(_, text)| *text != here.text) {
                    return None;
                }
                names.push((name.clone(), here.text.clone()));
            } else if token.text != here.text {
                return None;
            }
            last = Some(here);
        }
        Some(Place { bytes: self.tokens[at].bytes.start..last?.bytes.end, names })
    }

    /// Has either the shipped or the wrong code run at a place.
    fn switch(&mut self, number: usize, place: &Place, shipped: &str, wrong: &str) {
        // The longest first, so that no name is taken for the beginning of another one.
        let mut names = place.names.clone();
        names.sort_by_key(|(name, _)| usize::MAX - name.len());
        let wrong = names
            .iter()
            .fold(wrong.to_owned(), |wrong, (name, text)| wrong.replace(&format!("${name}"), text));
        let either = format!(
            "if crate::is_broken({number}) {{ {wrong} }} else {{ {} }}",
            &self.text[place.bytes.clone()]
        );
        let is_statement =
            shipped.ends_with(';') || shipped.starts_with("if ") || shipped.starts_with("while ");
        let either = if is_statement { either } else { format!("({either})") };
        let before = self.switches.insert(place.bytes.start, (place.bytes.clone(), either));
        assert!(before.is_none(), "two bugs are in one place: {:?}", BUGS[number]);
    }

    fn with_its_bugs(&self) -> String {
        let (mut text, mut at) = (String::new(), 0);
        for (bytes, either) in self.switches.values() {
            text += self.text.get(at..bytes.start).expect("no bug is within another one");
            text += either;
            at = bytes.end;
        }
        text + &self.text[at..]
    }
}

struct Token {
    text: String,
    bytes: Range<usize>,
    /// Of an opening bracket, the place of its closing one among the tokens.
    end: usize,
}

impl Token {
    fn is_identifier(&self) -> bool {
        self.text.starts_with(|first: char| first.is_alphabetic() || first == '_')
    }
}

fn tokens(text: &str) -> Vec<Token> {
    let mut reader = Reader { text, at: 0, tokens: Vec::new() };
    reader.take_all(text.parse().expect("tokens of Rust"));
    reader.tokens
}

/// Finds in a text where its tokens are. They would know themselves with the feature `span-locations`, but with another
/// set of features of proc-macro2 all macros, and so most crates, would be compiled once more for this program.
struct Reader<'a> {
    text: &'a str,
    /// How far it has read.
    at: usize,
    tokens: Vec<Token>,
}

impl Reader<'_> {
    fn take_all(&mut self, stream: TokenStream) {
        let mut trees = stream.into_iter().peekable();
        loop {
            // A doc comment is an attribute among the tokens: `#[doc = "..."]`, and `#![...]` at the top of a file.
            while self.pass_comment() {
                while trees.next().is_some_and(|tree| !matches!(tree, TokenTree::Group(_))) {}
            }
            match trees.next() {
                Some(TokenTree::Group(group)) => self.take_group(&group),
                Some(tree) => self.take(&tree.to_string()),
                None => return,
            }
        }
    }

    fn take_group(&mut self, group: &Group) {
        let (open, close) = match group.delimiter() {
            Delimiter::Parenthesis => ("(", ")"),
            Delimiter::Brace => ("{", "}"),
            Delimiter::Bracket => ("[", "]"),
            Delimiter::None => panic!("groups of parsed tokens have brackets"),
        };
        let opening = self.tokens.len();
        self.take(open);
        self.take_all(group.stream());
        self.tokens[opening].end = self.tokens.len();
        self.take(close);
    }

    fn take(&mut self, token: &str) {
        assert!(self.text[self.at..].starts_with(token), "`{token}` is not at byte {}", self.at);
        let bytes = self.at..self.at + token.len();
        self.at = bytes.end;
        self.tokens.push(Token { text: token.to_owned(), bytes, end: 0 });
    }

    /// Passes white space and plain comments, and one doc comment: whether there was one. Sources have no `/* */`.
    fn pass_comment(&mut self) -> bool {
        loop {
            let rest = &self.text[self.at..];
            let spaces = rest.len() - rest.trim_start().len();
            self.at += spaces;
            let Some(comment) = rest[spaces..].strip_prefix("//") else { return false };
            let line = comment.lines().next().unwrap_or_default();
            self.at += "//".len() + line.len();
            if line.starts_with('!') || line.starts_with('/') && !line.starts_with("//") {
                return true;
            }
        }
    }
}
