//! Recognizes what the first bytes of a connection are, if they are not an HTTP request.

/// The first bytes of the PROXY protocol, version 2.
const PROXY_SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// Whether a proxy speaks the PROXY protocol to us (HAProxy's `send-proxy`, load balancers), of which version 1
/// is a line of text.
#[must_use]
pub fn begins_with_proxy_preamble(head: &[u8]) -> bool {
    let line = || head.split(|&byte| byte == b'\n').next().unwrap_or_default();
    let signature = &head[..head.len().min(PROXY_SIGNATURE.len())];
    (signature.len() > b"\r\n\r\n".len() && PROXY_SIGNATURE.starts_with(signature))
        || (head.starts_with(b"PROXY ") && memchr::memmem::find(line(), b" HTTP/").is_none())
            && head.contains(&b'\n')
}

/// Whether `head`, as far as it has come, is the beginning of an HTTP request: the method a token, the
/// first line without control characters, and a version at its end.
#[must_use]
pub fn may_become_http(head: &[u8]) -> bool {
    let end = memchr::memchr(b'\n', head);
    let line = &head[..end.unwrap_or(head.len())];
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let method = line.split(|&byte| byte == b' ').next().unwrap_or_default();
    let method_is_token =
        method.iter().all(|&byte| byte.is_ascii_alphanumeric() || b"-_!#$%&'*+.^`|~".contains(&byte));
    let lacks_version = end.is_some() && memchr::memmem::find(line, b" HTTP/").is_none();
    method_is_token && !lacks_version && !line.iter().any(u8::is_ascii_control)
}
