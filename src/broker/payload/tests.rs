use super::*;

fn json_in(
    binary: BinaryPayloads,
    body: &[u8],
    content: Content,
    compression: &Compression,
) -> Result<String, Undeliverable> {
    let namespace = Namespace { binary, ..Namespace::default() };
    let limits = Limits { publication_bytes: 100, ..Limits::default() };
    let mut body = Body::new(body, content, compression, 100, 2);
    let data = body.in_namespace(&namespace, &limits, &mut Checker::new())?;
    Ok(String::from_utf8(data.json.to_vec()).unwrap())
}

fn binary(name: &str) -> Content {
    Content::Binary(name.into())
}

fn json(body: &[u8], content: Content) -> Result<String, Undeliverable> {
    json_in(BinaryPayloads::Refuse, body, content, &Compression::None)
}

#[test]
fn content_types_are_compared_without_case_and_parameters() {
    for (content_type, content) in [
        ("application/json", Content::Json),
        ("APPLICATION/JSON; x=1", Content::Json),
        ("", Content::Json),
        ("application/x-whatever", Content::Json),
        ("application/cloudevents+json; charset=utf-8", Content::Json),
        ("application/vnd.api+json", Content::Json),
        ("text/json", Content::Json),
        ("+", Content::Json),
        ("é", Content::Json),
        ("Text/Plain;charset=utf-8", Content::Text),
        ("application/octet-stream ", binary("application/octet-stream")),
        ("Application/X-Protobuf", binary("Application/X-Protobuf")),
        ("application/vnd.acme.order+msgpack", binary("application/vnd.acme.order+msgpack")),
        ("IMAGE/png", binary("IMAGE/png")),
        ("video/mp4", binary("video/mp4")),
    ] {
        assert_eq!(Content::of(content_type), content, "{content_type}");
    }
}

#[test]
fn every_kind_of_body_becomes_json_or_a_reason() {
    for (body, content, outcome) in [
        (&b"{\"a\": 1e400}"[..], Content::Json, Ok("{\"a\": 1e400}")),
        (b"say \"hi\"\n", Content::Text, Ok(r#""say \"hi\"\n""#)),
        (b"{\"a\":1}", Content::Text, Ok(r#""{\"a\":1}""#)),
        (b"\xef\xbb\xbf{\"a\":1}", Content::Json, Ok("{\"a\":1}")),
        (b"\xef\xbb\xbfhi", Content::Text, Ok("\"hi\"")),
        (b"", Content::Json, Err(Undeliverable::Empty)),
        (b"", Content::Text, Err(Undeliverable::Empty)),
        (b"\xef\xbb\xbf", Content::Json, Err(Undeliverable::Empty)),
        (b"ok\xff", Content::Text, Err(Undeliverable::NotUtf8(2))),
        (b"[[[]]]", Content::Json, Err(Undeliverable::Json(JsonError::TooDeep(2)))),
    ] {
        assert_eq!(json(body, content), outcome.map(str::to_owned), "{body:?}");
    }
    assert!(matches!(json(b"nope", Content::Json), Err(Undeliverable::Json(_))));
}

#[test]
fn a_namespace_says_what_becomes_of_binary_types() {
    let binary = Content::of("application/octet-stream");
    let refused = || Err(Undeliverable::Binary("application/octet-stream".into()));
    for (option, body, outcome) in [
        (BinaryPayloads::Refuse, &b"{}"[..], refused()),
        (BinaryPayloads::Base64, &[0, 255, 10], Ok("\"AP8K\"".to_owned())),
        (BinaryPayloads::Base64, b"{}", Ok("\"e30=\"".to_owned())),
        (BinaryPayloads::Json, b"\xef\xbb\xbf{\"order\":42}", Ok("{\"order\":42}".to_owned())),
        (BinaryPayloads::Json, b"", Err(Undeliverable::Empty)),
    ] {
        assert_eq!(json_in(option, body, binary.clone(), &Compression::None), outcome, "{option:?} {body:?}");
        let of_json = json_in(option, b"{}", Content::Json, &Compression::None);
        assert_eq!(of_json.as_deref(), Ok("{}"), "what is JSON is JSON in every namespace");
    }
    let reason = json_in(BinaryPayloads::Json, &[0, 255, 10], binary, &Compression::None).unwrap_err();
    assert!(reason.to_string().contains("not JSON"), "{reason}");
}

#[test]
fn what_is_decoded_is_checked_as_if_it_had_come_so_and_base64_stays_as_it_came() {
    let gzip = Compression::Gzip;
    for (option, content, outcome) in [
        (BinaryPayloads::Refuse, Content::Json, Ok("{\"order\":42}")),
        (BinaryPayloads::Refuse, Content::Text, Ok(r#""{\"order\":42}""#)),
        (BinaryPayloads::Json, binary("image/png"), Ok("{\"order\":42}")),
        (BinaryPayloads::Refuse, binary("image/png"), Err(Undeliverable::Binary("image/png".into()))),
    ] {
        let body = compressed();
        assert_eq!(
            json_in(option, &body, content.clone(), &gzip),
            outcome.map(str::to_owned),
            "{option:?} {content:?}"
        );
    }
    let as_it_came = json_in(BinaryPayloads::Base64, &compressed(), binary("image/png"), &gzip).unwrap();
    assert!(as_it_came.starts_with("\"H4sI"), "{as_it_came}");
    let reason = json_in(BinaryPayloads::Refuse, b"{}", Content::Json, &gzip).unwrap_err();
    assert!(reason.to_string().contains("'gzip'"), "{reason}");
}

fn compressed() -> Vec<u8> {
    use std::io::Write as _;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(b"{\"order\":42}").unwrap();
    encoder.finish().unwrap()
}

#[test]
fn a_reason_names_what_the_body_probably_is() {
    let utf16: Vec<u8> = "{\"a\":1}".encode_utf16().flat_map(u16::to_le_bytes).collect();
    let with_mark = [b"\xff\xfe", &utf16[..]].concat();
    let big_endian: Vec<u8> = "[]".encode_utf16().flat_map(u16::to_be_bytes).collect();
    let utf32 = b"{\0\0\0}\0\0\0";
    for (body, words) in [
        (&utf16[..], "UTF-16"),
        (&with_mark, "UTF-16"),
        (b"\xfe\xff\x00[\x00]", "UTF-16"),
        (&big_endian, "UTF-16"),
        (utf32, "UTF-32"),
        (&compressed(), "compressed (gzip)"),
        (b"\x28\xb5\x2f\xfd....", "compressed (zstd)"),
        (b"{\"a\":NaN}", "NaN at byte 5"),
        (b"[-Infinity]", "Infinity at byte 2"),
        (b"[\"NaN\\\"\",Infinity]", "Infinity at byte 9"),
    ] {
        let reason = json(body, Content::Json).unwrap_err().to_string();
        assert!(reason.contains("not JSON") && reason.contains(words), "{reason}");
    }
    let narrow = [&b"\"\0\""[..], b"\"\0ab\"", b"\"\0a\"", b"\0\"a\"", b"1\0\0\0a"];
    for body in [&b"nope"[..], b"{\"a\":\"NaN\"", b"\x00\x01", b"[\"\\"].into_iter().chain(narrow) {
        let reason = json(body, Content::Json).unwrap_err();
        assert!(matches!(reason, Undeliverable::Json(_)), "{reason}");
    }
    let reason = json(&with_mark, Content::Text).unwrap_err().to_string();
    assert!(reason.contains("text/plain") && reason.contains("UTF-16"), "{reason}");
    let unknown = Compression::of("x-snappy-framed");
    let refuse = BinaryPayloads::Refuse;
    let reason = json_in(refuse, b"\xff\x06\x00\x00sNaPpY", Content::Json, &unknown).unwrap_err();
    assert!(reason.to_string().contains("'x-snappy-framed'"), "{reason}");
    assert_eq!(json_in(refuse, b"{}", Content::Json, &unknown).as_deref(), Ok("{}"));
}

#[test]
fn a_namespace_says_how_large_a_publication_may_be() {
    let limits = Limits { publication_bytes: 10, ..Limits::default() };
    let default = Namespace::default();
    let own = Namespace { publication_bytes: 20, binary: BinaryPayloads::Base64, ..Namespace::default() };
    for (namespace, len, outcome) in [
        (&default, 10, Ok(())),
        (&default, 11, Err(Undeliverable::TooBig { len: 11, max: 10 })),
        (&own, 20, Ok(())),
        (&own, 21, Err(Undeliverable::TooBig { len: 21, max: 20 })),
    ] {
        assert_eq!(admit(len, namespace, &limits), outcome);
    }
    // It counts what is decoded.
    let (gzip, body) = (Compression::Gzip, compressed());
    let mut body = Body::new(&body, Content::Json, &gzip, 20, 2);
    let mut checker = Checker::new();
    let refused = body.in_namespace(&default, &limits, &mut checker).map(|data| data.len);
    assert_eq!(refused, Err(Undeliverable::TooBig { len: 12, max: 10 }));
    assert_eq!(body.in_namespace(&own, &limits, &mut checker).map(|data| data.len), Ok(12));
}
