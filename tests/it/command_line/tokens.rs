//! `fanfare token` and `fanfare check-token`.

use std::io::Write;
use std::process::Stdio;

use super::{fanfare, finish, run};

const SECRET: &str = "hunter2, hunter2, and hunter2 again";

/// The token that the command prints.
fn token(arguments: &[&str]) -> String {
    let mut command = fanfare(&[&["token"], arguments].concat());
    let (code, token, errors) = run(command.env("FANFARE_TOKENS_HMAC_KEYS", "hunter2,old"));
    assert_eq!((code, errors.as_str()), (Some(0), ""));
    assert_eq!((token.matches('\n').count(), token.matches('.').count()), (1, 2), "{token}");
    token.trim_end().to_owned()
}

/// Exit code and report of an engine's configuration that has this secret.
fn check(token: &str, secret: &str) -> (Option<i32>, String) {
    let mut command = fanfare(&["check-token", token]);
    let (code, report, errors) = run(command.env("FANFARE_TOKENS_HMAC_KEYS", secret));
    assert_eq!(errors, "", "{report}");
    assert!(!report.contains("hunter2"), "{report}");
    (code, report)
}

#[test]
fn a_token_that_was_printed_is_accepted() {
    let (code, report) = check(&token(&["--user", "ann"]), "new,hunter2");
    assert_eq!(code, Some(0), "{report}");
    for words in [
        "header     {\"alg\":\"HS256\",\"typ\":\"JWT\"}\n",
        "\"sub\":\"ann\"",
        " GMT, in ",
        "accepted   as the token of a connection\n",
    ] {
        assert!(report.contains(words), "{report}");
    }
    let (code, report) = check(&token(&["--user", "ann", "--topic", "news", "--ttl", "48h"]), "hunter2");
    assert_eq!(code, Some(0), "{report}");
    assert!(report.contains("\"channel\":\"news\""), "{report}");
    assert!(report.contains("accepted   as the token of a subscription\n"), "{report}");
    let (code, report) = check(&token(&["--ttl", "0"]), "hunter2");
    assert!(code == Some(0) && !report.contains("exp"), "it is anonymous, and never expires: {report}");
}

#[test]
fn a_token_that_is_refused_is_explained() {
    let ann = token(&["--user", "ann"]);
    for (token, secret, words) in [
        (
            &*ann,
            "new",
            "refused    as the token of a connection: its signature is of none of the keys for HS256",
        ),
        (&ann[..ann.len() - 1], "hunter2", "its signature is"),
        ("x", "hunter2", "it is no JSON Web Token"),
        ("eyJhbGciOiJub25lIn0.eyJzdWIiOiJhbm4ifQ.", "hunter2", "its algorithm is not accepted"),
    ] {
        let (code, report) = check(token, secret);
        assert!(code == Some(1) && report.contains(words), "{report}");
    }
    let mut command = fanfare(&["check-token", &ann]);
    let (code, report, _) = run(&mut command);
    assert!(code == Some(1) && report.contains("there is no key for that"), "{report}");
    assert!(report.contains("\"sub\":\"ann\""), "what it says is shown all the same: {report}");
    let old = "eyJhbGciOiJIUzI1NiJ9.eyJleHAiOjEwMCwic3ViIjoiXHUwMDFiIn0.Qn9tx-G2vwK0Wgxq75DVBTiR93qmwDHv5Os-aXQhNY4";
    let (code, report) = check(old, "hunter2");
    assert!(code == Some(1) && report.contains("exp        Thu, 01 Jan 1970 00:01:40 GMT, "), "{report}");
    assert!(report.contains(" days ago\n"), "{report}");
    let signer = fanfare::auth::Signer::with_secret(b"hunter2").unwrap();
    let (code, report) = check(&signer.sign(r#"{"channels":["news","other:1"]}"#).unwrap(), "hunter2");
    let words = "it subscribes to `other:1`, which there cannot be (error 102)\n";
    assert!(code == Some(1) && report.contains(words), "{report}");
    for claims in [r#"{"expire_at":100}"#, r#"{"expire_at":-1}"#, r#"{"channel":"news","expire_at":100}"#] {
        let (code, report) = check(&signer.sign(claims).unwrap(), "hunter2");
        assert!(code == Some(1) && report.contains("has expired (`expire_at`; error 110)\n"), "{report}");
    }
}

#[test]
fn a_token_may_come_on_standard_input() {
    let mut command = fanfare(&["check-token", "-"]);
    let mut child = command.env("FANFARE_TOKENS_HMAC_KEYS", "hunter2").stdin(Stdio::piped()).spawn().unwrap();
    writeln!(child.stdin.take().unwrap(), "{}", token(&["--user", "ann"])).unwrap();
    let output = finish(child);
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn keys_come_from_flags_and_files_as_well() {
    let folder = std::env::temp_dir().join(format!("fanfare-tokens-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let path = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    std::fs::write(path("private.pem"), pair.serialize_pem()).unwrap();
    std::fs::write(path("public.pem"), pair.public_key_pem()).unwrap();
    let configuration = format!(
        "[tokens]\nhmac_keys = ['{SECRET}']\npublic_keys = ['{}']\nissuer = 'me'\naudience = 'you'\n\
         user_id_claim = 'email'\n[subscription_tokens]\nhmac_keys = 'another'\n",
        path("public.pem")
    );
    std::fs::write(path("fanfare.toml"), configuration).unwrap();
    let file = path("fanfare.toml");
    for arguments in [
        &["token", "--user", "ann", "--config", &file][..],
        &["token", "--user", "ann", "--config", &file, "--key", SECRET],
        &["token", "--user", "ann", "--config", &file, "--key-file", &path("private.pem")],
        &["token", "--topic", "news", "--config", &file],
        &["token", "--topic", "news", "--config", &file, "--key", "another"],
    ] {
        let (code, token, errors) = run(&mut fanfare(arguments));
        assert_eq!((code, errors.as_str()), (Some(0), ""));
        let (code, report, errors) = run(&mut fanfare(&["check-token", token.trim(), "--config", &file]));
        assert_eq!((code, errors.as_str()), (Some(0), ""), "{arguments:?}: {report}");
        assert!(report.contains("\"iss\":\"me\""), "{report}");
    }
    for (arguments, problem) in [
        (&["token"][..], "there is no secret to sign with"),
        (&["token", "--key", ""], "the secret is empty"),
        (&["token", "--key", "k", "--user", &"u".repeat(257)], "--user has 257 bytes, and at most 256"),
        (&["token", "--key", "k", "--topic", ""], "--topic names no topic"),
        (&["token", "--key", "k", "--ttl", "99999999h"], "--ttl goes beyond the year 9999"),
        (&["token", "--key-file", &path("public.pem")], "it has no private key"),
        (&["token", "--key-file", &path("none.pem")], "none.pem cannot be read"),
    ] {
        let (code, report, errors) = run(&mut fanfare(arguments));
        assert_eq!((code, report.as_str()), (Some(1), ""), "{errors}");
        assert!(errors.contains(problem), "{errors}");
    }
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn check_reads_the_keys() {
    let check = |variables: &[(&str, &str)]| {
        let mut command = fanfare(&["check"]);
        command.env("FANFARE_SERVER_LISTEN", "127.0.0.1:0").env("FANFARE_CONTROL_LISTEN", "127.0.0.1:0");
        command.envs(variables.iter().copied());
        run(&mut command)
    };
    let secrets = ("FANFARE_TOKENS_HMAC_KEYS", "hunter2,hunter3");
    let (code, report, _) = check(&[secrets]);
    assert!(code == Some(0) && report.contains("ok       tokens of connections have 2 keys"), "{report}");
    let (_, report, _) = check(&[secrets, ("FANFARE_SUBSCRIPTION_TOKENS_HMAC_KEYS", "x")]);
    assert!(report.contains("2 keys, and those of subscriptions 1\n"), "{report}");
    let (code, report, _) = check(&[("FANFARE_TOKENS_PUBLIC_KEYS", "no-such-file.pem")]);
    let problem = "problem  tokens.public_keys: no-such-file.pem cannot be read";
    assert!(code == Some(1) && report.contains(problem), "{report}");
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
    let (code, report, _) = check(&[("FANFARE_JWKS_FILE", manifest)]);
    assert!(code == Some(1) && report.contains("it is no JSON Web Key Set"), "{report}");
    let set = std::env::temp_dir().join(format!("fanfare-cli-{}-set.json", std::process::id()));
    // The one that can be used is that of RFC 8037, appendix A.2.
    let keys =
        r#"{"kty":"AKP"},{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;
    std::fs::write(&set, format!("{{\"keys\":[{keys}]}}")).unwrap();
    let (code, report, _) = check(&[("FANFARE_JWKS_FILE", set.to_str().unwrap())]);
    std::fs::remove_file(&set).unwrap();
    let warning =
        format!("warning  jwks.file: {}: key 1 of the set is of no kind that is used here", set.display());
    assert!(code == Some(0) && report.contains(&warning) && report.contains("have 1 keys"), "{report}");
    let (_, report, _) = check(&[]);
    assert!(!report.contains("tokens of"), "{report}");
}

/// No problem of a configuration shows a secret, not even one in the wrong place.
#[test]
fn secrets_are_not_shown() {
    for (variable, value) in [("FANFARE_TOKENS_HMAC_KEYS", "hunter2,"), ("FANFARE_TOKENS_LEEWAY", "soon")] {
        let mut command = fanfare(&["check"]);
        command.env("FANFARE_SUBSCRIPTION_TOKENS_HMAC_KEYS", "hunter2").env(variable, value);
        command.env("FANFARE_SERVER_LISTEN", "127.0.0.1:0").env("FANFARE_CONTROL_LISTEN", "127.0.0.1:0");
        let (_, report, errors) = run(&mut command);
        assert!(!report.contains("hunter2") && !errors.contains("hunter2"), "{report}{errors}");
    }
}
