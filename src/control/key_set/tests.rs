//! What comes of answers that are no key set, and of those that are.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::Arc;
use std::thread;

use super::*;
use crate::auth::{JWKS_BYTES_MAX, KeyError};
use crate::config::Jwks;

/// The public key of RFC 8037, appendix A.2.
const KEY: &str = r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;

fn set(keys: &[&str]) -> String {
    format!(r#"{{"keys":[{}]}}"#, keys.join(","))
}

/// A source whose host gives these answers, one after the other.
fn source(answers: Vec<String>) -> KeySetSource {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for answer in answers {
            let mut stream = listener.accept().unwrap().0;
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                head.extend(byte);
            }
            // The client may hang up: it takes no more than a set may have.
            drop(stream.write_all(
                format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{answer}", answer.len()).as_bytes(),
            ));
        }
    });
    let url = format!("http://{address}/keys?secret=hunter2").as_str().into();
    KeySetSource::new(&Jwks { url, ..Jwks::default() }).unwrap().unwrap()
}

fn fetch(source: &KeySetSource, latest: Option<&FetchedSet>) -> Result<FetchedSet, FetchError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(source.fetch(latest))
}

#[test]
fn an_answer_without_keys_that_can_be_used_is_no_set() {
    for (answer, expected) in [
        ("<html>".to_owned(), KeyError::NoKeySet),
        (String::new(), KeyError::NoKeySet),
        (set(&[]), KeyError::NoUsableKey),
        (set(&[r#"{"kty":"oct","k":"c2VjcmV0"}"#]), KeyError::KindInSet { number: 1 }),
        (set(&[KEY; 1000]), KeyError::TooMany),
    ] {
        let error = fetch(&source(vec![answer]), None).unwrap_err();
        assert!(matches!(error, FetchError::Keys(error) if error == expected), "{error}");
    }
    let error =
        fetch(&source(vec![format!("{}{}", set(&[KEY]), " ".repeat(JWKS_BYTES_MAX))]), None).unwrap_err();
    assert_eq!(error.to_string(), format!("its answer has more than {JWKS_BYTES_MAX} bytes"));
}

#[test]
fn the_same_set_has_the_same_keys() {
    let other = set(&[KEY, r#"{"kty":"AKP"}"#]);
    let source = source(vec![set(&[KEY]), set(&[KEY]), other]);
    let first = fetch(&source, None).unwrap();
    let second = fetch(&source, Some(&first)).unwrap();
    assert!(Arc::ptr_eq(&first.keys, &second.keys));
    let third = fetch(&source, Some(&second)).unwrap();
    assert!(!Arc::ptr_eq(&first.keys, &third.keys) && third.keys.passed_over().is_some());
}

#[test]
fn the_query_of_the_url_is_not_shown() {
    let source = source(Vec::new());
    assert!(source.name().ends_with("/keys") && !format!("{source:?}").contains("hunter2"), "{source:?}");
}

#[test]
fn without_a_url_there_is_no_source() {
    assert!(KeySetSource::new(&Jwks::default()).unwrap().is_none());
    let jwks = Jwks {
        url: "https://issuer.example/".into(),
        ca_file: "/no/such/file".to_owned(),
        ..Jwks::default()
    };
    assert!(KeySetSource::new(&jwks).unwrap_err().to_string().contains("/no/such/file cannot be read"));
}
