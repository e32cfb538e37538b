//! Recognizes a peer that is not RabbitMQ.

use std::future::pending;
use std::pin::pin;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use super::address::Address;
use super::fault::{FaultKind, RabbitMqFault};

/// A server that has not spoken AMQP after this time may be waiting for something else. HTTP servers wait for the end
/// of a line, which AMQP's first bytes do not have.
const DOUBT_AFTER: Duration = Duration::from_secs(2);
/// For an answer to a request in HTTP.
const ANSWER_LIMIT: Duration = Duration::from_secs(2);

/// What `connecting` comes to; but if it comes to nothing because HTTP is spoken there, that is said instead, and not
/// after its own time limit.
///
/// # Errors
/// Those of `connecting`, or that there is no AMQP.
pub(super) async fn unless_http<T>(
    address: &Address,
    connecting: impl Future<Output = Result<T, RabbitMqFault>>,
) -> Result<T, RabbitMqFault> {
    let mut connecting = pin!(connecting);
    let in_doubt = async {
        sleep(DOUBT_AFTER).await;
        if !speaks_http(address).await {
            pending().await
        }
    };
    tokio::select! {
        connected = &mut connecting => match connected {
            Err(fault) if !fault.is_final() && speaks_http(address).await => Err(no_amqp(address)),
            connected => connected,
        },
        () = in_doubt => Err(no_amqp(address)),
    }
}

fn no_amqp(address: &Address) -> RabbitMqFault {
    FaultKind::Http { node: address.to_string() }.into()
}

/// Asks in HTTP: once, as a RabbitMQ logs each such request, and what swallows packets keeps the next node waiting. Who
/// spoke no HTTP then does not begin to. Where nobody listens nobody was asked.
async fn speaks_http(address: &Address) -> bool {
    if address.is_no_http.swap(true, Ordering::Relaxed) {
        return false;
    }
    let authority = &address.uri.authority;
    let asking = async {
        let connecting = TcpStream::connect((authority.host.as_str(), authority.port));
        let Ok(stream) = connecting.await else { return None };
        Some(answers_in_http(stream).await.unwrap_or(false))
    };
    let answer = timeout(ANSWER_LIMIT, asking).await.unwrap_or(Some(false));
    address.is_no_http.store(answer == Some(false), Ordering::Relaxed);
    answer == Some(true)
}

async fn answers_in_http(mut stream: TcpStream) -> std::io::Result<bool> {
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").await?;
    let mut answer = [0; 5];
    stream.read_exact(&mut answer).await?;
    Ok(answer == *b"HTTP/")
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn an_http_server_is_told_from_one_that_is_slow() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let http = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = [0; 16];
                let _ = stream.read(&mut request).await;
                let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
            }
        });
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        let address =
            |at: std::net::SocketAddr| Address::parse(&format!("amqp://a:hunter2@{at}").into()).unwrap();
        let slow = || async {
            sleep(Duration::from_secs(3)).await;
            Err::<(), RabbitMqFault>(FaultKind::InspectionLate.into())
        };
        let fault = unless_http(&address(http), slow()).await.unwrap_err();
        let told = fault.to_string();
        assert!(fault.is_final() && told.contains("management page"), "{told}");
        assert!(!told.contains("hunter2"), "{told}");
        let at_once = async { Err::<(), RabbitMqFault>(FaultKind::NoAnswer { node: "x".to_owned() }.into()) };
        let fault = unless_http(&address(http), at_once).await.unwrap_err();
        assert!(fault.to_string().contains("management page"), "{fault}");
        let fault = unless_http(&address(silent.local_addr().unwrap()), slow()).await.unwrap_err();
        assert_eq!(fault.to_string(), "it does not answer in time");
    }

    #[tokio::test]
    async fn what_speaks_no_http_is_asked_once_and_nobody_is_not_asked() {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let address = Address::parse(&format!("amqp://a:b@{port}").into()).unwrap();
        let broken = "RabbitMQ at x does not answer";
        let fail = async || {
            let at_once =
                async { Err::<(), RabbitMqFault>(FaultKind::NoAnswer { node: "x".to_owned() }.into()) };
            unless_http(&address, at_once).await.unwrap_err().to_string()
        };
        assert_eq!(fail().await, broken, "nobody listens");
        let listener = TcpListener::bind(port).unwrap();
        let asked = std::thread::spawn(move || {
            let mut asked = 0;
            while let Ok((mut stream, _)) = listener.accept() {
                let mut request = [0; 3];
                if stream.read(&mut request).unwrap() == 0 {
                    break;
                }
                asked += 1;
                let _ = stream.write_all(b"AMQP\x00\x00\x09\x01");
            }
            asked
        });
        for _ in 0..3 {
            assert_eq!(fail().await, broken);
        }
        drop(TcpStream::connect(port).await.unwrap());
        assert_eq!(asked.join().unwrap(), 1);
    }
}
