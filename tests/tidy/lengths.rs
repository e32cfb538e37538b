//! How long a function or a file may be, in tests and benches as well.

use syn::visit::{self, Visit};

use super::{Finding, report, sources_below};

const FUNCTION_LINES: usize = 70;
const FILE_LINES: usize = 500;

/// Functions and the file itself, where `file` has too many lines.
pub(super) fn lengths(file: &str, source: &str) -> Vec<Finding> {
    let mut functions = Functions::default();
    functions.visit_file(&syn::parse_file(source).unwrap_or_else(|error| panic!("{file}: {error}")));
    let mut findings: Vec<Finding> = functions
        .extents
        .into_iter()
        .filter(|(_, first, last)| last - first + 1 > FUNCTION_LINES)
        .map(|(name, first, last)| Finding {
            file: file.to_owned(),
            line: first,
            rule: format!("`{name}` has {} lines, more than {FUNCTION_LINES}", last - first + 1),
            instead: "split it where a name says what a part does".to_owned(),
        })
        .collect();
    let lines = source.lines().count();
    if lines > FILE_LINES {
        findings.push(Finding {
            file: file.to_owned(),
            line: lines,
            rule: format!("{lines} lines, more than {FILE_LINES}"),
            instead: "split the file by what its parts are about, or move its tests to a tests.rs".to_owned(),
        });
    }
    findings
}

/// Name, first and last line of each function.
#[derive(Default)]
struct Functions {
    extents: Vec<(String, usize, usize)>,
}

impl Functions {
    fn add(&mut self, signature: &syn::Signature, block: &syn::Block) {
        let first = signature.fn_token.span.start().line;
        let last = block.brace_token.span.close().end().line;
        self.extents.push((signature.ident.to_string(), first, last));
    }
}

impl<'ast> Visit<'ast> for Functions {
    fn visit_item_fn(&mut self, function: &'ast syn::ItemFn) {
        self.add(&function.sig, &function.block);
        visit::visit_item_fn(self, function);
    }

    fn visit_impl_item_fn(&mut self, function: &'ast syn::ImplItemFn) {
        self.add(&function.sig, &function.block);
        visit::visit_impl_item_fn(self, function);
    }

    fn visit_trait_item_fn(&mut self, function: &'ast syn::TraitItemFn) {
        if let Some(block) = &function.default {
            self.add(&function.sig, block);
        }
        visit::visit_trait_item_fn(self, function);
    }
}

#[test]
fn no_file_or_function_of_tests_and_benches_is_too_long() {
    let of = |folder: &str| {
        let sources = sources_below(folder);
        assert!(sources.len() > 10, "{folder} is where it is looked for");
        let found = sources.iter().flat_map(|(path, source)| lengths(&format!("{folder}/{path}"), source));
        found.collect::<Vec<_>>()
    };
    report(&[of("tests"), of("benches")].concat());
}

#[test]
fn what_is_too_long_is_found_wherever_it_is() {
    let function = format!("fn long() {{\n{}}}", "\n".repeat(FUNCTION_LINES - 1));
    let method = format!("impl X {{ fn long() {{\n{}}} }}", "\n".repeat(FUNCTION_LINES - 1));
    let provided = format!("trait X {{ fn long() {{\n{}}} }}", "\n".repeat(FUNCTION_LINES - 1));
    let inner = format!("mod tests {{ #[test] fn long() {{\n{}}} }}", "\n".repeat(FUNCTION_LINES - 1));
    let file = "\n".repeat(FILE_LINES + 1);
    for (source, rule) in [
        (function, "`long` has 71 lines, more than 70"),
        (method, "`long` has 71 lines, more than 70"),
        (provided, "`long` has 71 lines, more than 70"),
        (inner, "`long` has 71 lines, more than 70"),
        (file, "501 lines, more than 500"),
    ] {
        let found = lengths("tests/it/page.rs", &source);
        assert!(
            found.iter().any(|finding| finding.rule == rule),
            "{source:?} was not found to break: {rule}"
        );
    }
    let just_right = format!("fn f() {{\n{}}}{}", "\n".repeat(FUNCTION_LINES - 2), "\n".repeat(400));
    report(&lengths("tests/it/page.rs", &just_right));
}
