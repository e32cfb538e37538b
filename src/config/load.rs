//! Reads a [`Config`] from a file and the environment. Every value is checked alone, so that all errors are
//! reported at once, each with the place of the value.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path as FilePath;

use serde::Deserialize;
use serde::de::IntoDeserializer;
use toml::de::{DeTable, DeValue};
use toml::{Spanned, Table, Value};

use super::keys::{Keys, PREFIX, Path, dotted};
use super::service_links::is_service_link;
use super::wrong;
use super::{Config, Expected, Problem, Problems, ShownValue, SyntaxError, ValueOrigin};

/// The variable of the environment that names the configuration file. It is not a key.
pub const FILE_VARIABLE: &str = "FANFARE_CONFIG";

/// The result of [`load`].
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The configuration. Each value has its type; nothing else is checked yet ([`Config::validate`]).
    pub config: Config,
    /// The place where each key that was set got its value, by the key's name: `limits.clients`.
    pub origins: BTreeMap<String, ValueOrigin>,
    /// Variables of the environment that begin with `FANFARE_` and were ignored, because Kubernetes makes
    /// them from a Service whose name begins with `fanfare`.
    pub service_links: Vec<String>,
}

impl Loaded {
    /// Puts the value of a flag, if it was given, in the place of what the key had. `place` is the key's in the
    /// configuration.
    pub fn set_by_flag<T>(
        &mut self,
        flag: &'static str,
        value: Option<T>,
        key: &str,
        place: impl FnOnce(&mut Config) -> &mut T,
    ) {
        if let Some(value) = value {
            *place(&mut self.config) = value;
            self.origins.insert(key.to_owned(), ValueOrigin::Flag(flag));
        }
    }

    /// Checks what [`Config::validate`] checks, and says where the values come from.
    ///
    /// # Errors
    /// Everything that is wrong.
    pub fn validate(&self) -> Result<(), Problems> {
        self.config.validate().map_err(|problems| problems.located(&self.origins))
    }

    /// What an operator should know about ignored variables; `None` if there are none.
    #[must_use]
    pub fn notice(&self) -> Option<String> {
        let names = self.service_links.join(", ");
        (!names.is_empty()).then(|| {
            format!(
                "Kubernetes set {names} for a Service of that name; they are no configuration, and passed over \
                 (`enableServiceLinks: false` in the pod keeps them away)"
            )
        })
    }
}

/// One value that somebody set.
struct Setting {
    path: Path,
    value: Value,
    origin: ValueOrigin,
}

/// The defaults, replaced by `file` (TOML), replaced by those variables of `environment` that begin with
/// `FANFARE_`. The key `clients` of the table `limits` is `FANFARE_LIMITS_CLIENTS`. Lists are separated by
/// commas, and so are the pairs `key=value` of a table in which the operator chooses the keys; they are added to
/// those of the file.
///
/// # Errors
/// An unreadable file, unknown keys and variables, values of the wrong type: all of them at once.
pub fn load(
    file: Option<&FilePath>,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Loaded, Problems> {
    let keys = Keys::new();
    let mut problems = Vec::new();
    let mut settings = match file {
        Some(path) => from_file(path, &keys, &mut problems),
        None => Vec::new(),
    };
    let spelled: Vec<Path> = settings.iter().map(|setting| setting.path.clone()).collect();
    let mut service_links = Vec::new();
    settings.extend(from_environment(environment, &keys, &spelled, &mut problems, &mut service_links));
    settings.retain(|setting| match wrong_value(setting) {
        Some(problem) => {
            problems.push(problem);
            false
        }
        None => true,
    });
    Problems::unless_none(problems, Loaded { service_links, ..merge(settings) })
}

fn from_file(path: &FilePath, keys: &Keys, problems: &mut Vec<Problem>) -> Vec<Setting> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(source) => {
            problems.push(Problem::Unreadable { path: path.to_owned(), source });
            return Vec::new();
        }
    };
    let mut reader = FileReader { file: path, text: &text, keys, problems, settings: Vec::new() };
    match DeTable::parse(&text) {
        Ok(table) => reader.read(table.get_ref(), &[]),
        // Only the message: the error's own text quotes the line, which may hold a password.
        Err(error) => {
            let span = error.span().unwrap_or_default();
            let origin = reader.origin(span.start);
            let error = SyntaxError::new(error.message(), text.get(span).unwrap_or_default());
            reader.problems.push(Problem::Syntax { origin, error });
        }
    }
    reader.settings
}

/// Takes a parsed file apart into settings.
struct FileReader<'a> {
    file: &'a FilePath,
    text: &'a str,
    keys: &'a Keys,
    problems: &'a mut Vec<Problem>,
    settings: Vec<Setting>,
}

impl FileReader<'_> {
    fn read(&mut self, table: &DeTable<'_>, parent: &[String]) {
        for (name, value) in table {
            let path = [parent, &[name.get_ref().to_string()]].concat();
            self.read_key(path, value, self.origin(name.span().start));
        }
    }

    fn read_key(&mut self, path: Path, value: &Spanned<DeValue<'_>>, origin: ValueOrigin) {
        let is_table = self.keys.find(&path).map(Value::is_table);
        match (is_table, value.get_ref()) {
            (None, _) => {
                let nearest = self.keys.nearest(&path);
                self.problems.push(Problem::UnknownKey { origin, key: dotted(&path), nearest });
            }
            (Some(true), DeValue::Table(table)) => {
                // A namespace or a backend exists by being named, even where it sets nothing.
                self.settings.push(Setting { path: path.clone(), value: Table::new().into(), origin });
                self.read(table, &path);
            }
            (Some(true), other) => {
                let expected = Expected::Table { name: dotted(&path) };
                self.wrong(&path, ShownValue::OfType(other.type_str()), expected, origin);
            }
            (Some(false), _) => match Value::deserialize(value.clone().into_deserializer()) {
                Ok(value) => self.settings.push(Setting { path, value, origin }),
                // A number beyond 64 bits.
                Err(_) => {
                    let number = value.get_ref().as_integer().map(ToString::to_string).unwrap_or_default();
                    let (shown, expected) = wrong::number_too_large(&path, number);
                    self.wrong(&path, shown, expected, origin);
                }
            },
        }
    }

    fn wrong(&mut self, path: &[String], value: ShownValue, expected: Expected, origin: ValueOrigin) {
        self.problems.push(Problem::WrongValue { origin, key: dotted(path), value, expected });
    }

    fn origin(&self, offset: usize) -> ValueOrigin {
        let before = self.text.as_bytes().get(..offset).unwrap_or_default();
        let line = 1 + before.iter().filter(|&&byte| byte == b'\n').count();
        ValueOrigin::File { path: self.file.to_owned(), line }
    }
}

fn from_environment(
    environment: impl IntoIterator<Item = (OsString, OsString)>,
    keys: &Keys,
    spelled: &[Path],
    problems: &mut Vec<Problem>,
    service_links: &mut Vec<String>,
) -> Vec<Setting> {
    let mut variables: Vec<(String, OsString)> = environment
        .into_iter()
        .filter_map(|(name, text)| Some((name.into_string().ok()?, text)))
        .filter(|(name, _)| name.starts_with(PREFIX) && name != FILE_VARIABLE)
        .collect();
    variables.sort_unstable();
    let mut settings = Vec::new();
    for (name, text) in variables {
        let is_key = keys.of_variable(&name, spelled).is_some();
        if !is_key && text.to_str().is_some_and(|text| is_service_link(&name, text)) {
            service_links.push(name);
            continue;
        }
        match from_variable(&name, text, keys, spelled) {
            Ok(found) => settings.extend(found),
            Err(problem) => problems.push(problem),
        }
    }
    settings
}

/// What a variable sets: one key, or some keys of a table in which the operator chooses them.
fn from_variable(name: &str, text: OsString, keys: &Keys, spelled: &[Path]) -> Result<Vec<Setting>, Problem> {
    let origin = ValueOrigin::Environment(name.to_owned());
    let Some(path) = keys.of_variable(name, spelled) else {
        let nearest = keys.nearest_variable(name);
        return Err(Problem::UnknownKey { origin, key: name.to_owned(), nearest });
    };
    let wrong =
        |value, expected| Problem::WrongValue { origin: origin.clone(), key: dotted(&path), value, expected };
    let text = text.into_string().map_err(|_| wrong(ShownValue::NotUtf8, Expected::Utf8))?;
    let default = keys.find(&path);
    if default.is_some_and(Value::is_table) {
        let pairs = pairs(&text).ok_or_else(|| wrong(ShownValue::NoPairs, Expected::Pairs))?;
        let setting = |(key, text): (&str, &str)| Setting {
            path: [&path[..], &[key.to_owned()]].concat(),
            value: Value::from(text),
            origin: origin.clone(),
        };
        return Ok(pairs.into_iter().map(setting).collect());
    }
    let value = value_of_text(text, default);
    Ok(vec![Setting { path, value, origin }])
}

/// Keys and values in one text: `a=b, c=d`. `None` if a part has no `=`.
fn pairs(text: &str) -> Option<Vec<(&str, &str)>> {
    let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    parts.map(|part| part.split_once('=').map(|(key, value)| (key.trim(), value.trim()))).collect()
}

/// The value of a variable's text, by the type of the key's default. Text that does not fit remains text, and
/// the check of the value then refuses it.
fn value_of_text(text: String, default: Option<&Value>) -> Value {
    let parsed = match default {
        Some(Value::Integer(_)) => text.trim().replace('_', "").parse().ok().map(Value::Integer),
        Some(Value::Boolean(_)) => text.trim().parse().ok().map(Value::Boolean),
        Some(Value::Array(_)) => {
            let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
            Some(Value::Array(items.map(Value::from).collect()))
        }
        _ => None,
    };
    parsed.unwrap_or(Value::String(text))
}

/// What is wrong with the value of one setting alone.
fn wrong_value(setting: &Setting) -> Option<Problem> {
    let expected = wrong::expected(&setting.path, &setting.value)?;
    Some(Problem::WrongValue {
        origin: setting.origin.clone(),
        key: dotted(&setting.path),
        value: wrong::shown(&setting.path, &setting.value),
        expected,
    })
}

/// All settings over the defaults, the later over the earlier.
fn merge(settings: Vec<Setting>) -> Loaded {
    let mut tables = Table::new();
    let mut origins = BTreeMap::new();
    for Setting { path, value, origin } in settings {
        let is_table = value.is_table();
        insert(&mut tables, &path, value);
        if !is_table {
            origins.insert(dotted(&path), origin);
        }
    }
    let config = tables.try_into().expect("every setting was found to be right by itself");
    Loaded { config, origins, service_links: Vec::new() }
}

/// Puts a value at its path, and creates the tables on the way. Existing tables stay.
fn insert(table: &mut Table, path: &[String], value: Value) {
    match path {
        [] => {}
        [key] if value.is_table() => {
            table.entry(key).or_insert(value);
        }
        [key] => {
            table.insert(key.clone(), value);
        }
        [key, rest @ ..] => {
            if let Value::Table(inner) = table.entry(key).or_insert_with(|| Table::new().into()) {
                insert(inner, rest, value);
            }
        }
    }
}
