//! HTTP/1.1 where we are the client: heads to collectors, commands to another machine's server. By TLS the other end proves
//! its name by a certificate that this machine trusts.

use std::{net::SocketAddr, sync::Arc};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, Uri, header};
use http_body_util::Full;
use hyper::{
    body::Incoming,
    client::conn::http1::{SendRequest, handshake},
};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, lookup_host},
    task::JoinHandle,
};
use tokio_rustls::TlsConnector;

/// The other end of connections, which nobody has reached yet.
pub(crate) struct Peer {
    host: String,
    port: u16,
    tls: Option<TlsConnector>,
}

/// A connection for one request, which ends when this is dropped.
pub(crate) struct Connection {
    host: HeaderValue,
    send: SendRequest<Full<Bytes>>,
    driven: JoinHandle<hyper::Result<()>>,
}

impl Peer {
    /// The host of a URL of http or https. A login in the URL is not its business.
    ///
    /// # Errors
    /// It has no host; or it is of https, and this machine trusts nobody. Nothing of the URL is repeated: a password may be in it.
    pub(crate) fn of(url: &Uri) -> Result<Self, String> {
        let authority = url.authority().ok_or("it is no URL of http or https")?;
        let secure = url.scheme_str() == Some("https");
        Ok(Self {
            host: authority.host().trim_matches(['[', ']']).to_owned(),
            port: authority.port_u16().unwrap_or(if secure { 443 } else { 80 }),
            tls: secure.then(tls).transpose()?,
        })
    }

    /// Its host and port.
    pub(crate) fn name(&self) -> String {
        if self.host.contains(':') { format!("[{}]:{}", self.host, self.port) } else { format!("{}:{}", self.host, self.port) }
    }

    /// Connects to one of its addresses that may be.
    ///
    /// # Errors
    /// It cannot be reached, or does not prove its name.
    pub(crate) async fn connect(&self, may_be: fn(&SocketAddr) -> bool) -> Result<Connection, String> {
        let addresses = lookup_host((self.host.as_str(), self.port)).await.map_err(|e| e.to_string())?;
        let addresses: Vec<_> = addresses.filter(may_be).collect();
        if addresses.is_empty() {
            return Err("it has no address that may be taken".to_owned());
        }
        let tcp = TcpStream::connect(&addresses[..]).await.map_err(|e| e.to_string())?;
        match &self.tls {
            None => self.connected(tcp).await,
            Some(tls) => {
                let name = ServerName::try_from(self.host.clone()).map_err(|e| e.to_string())?;
                self.connected(tls.connect(name, tcp).await.map_err(|e| e.to_string())?).await
            }
        }
    }

    async fn connected(&self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Result<Connection, String> {
        let host = HeaderValue::from_str(&self.name()).map_err(|e| e.to_string())?;
        let (send, connection) = handshake(TokioIo::new(stream)).await.map_err(|e| e.to_string())?;
        Ok(Connection { host, send, driven: tokio::spawn(connection) })
    }
}

impl Connection {
    /// Sends a request, whose target is a path and query. Where it is sent on to another place, it does not go: that place is
    /// not whom the caller has named.
    ///
    /// # Errors
    /// There is no answer. What became of the request is then unknown.
    pub(crate) async fn send(&mut self, mut request: Request<Full<Bytes>>) -> Result<Response<Incoming>, String> {
        request.headers_mut().insert(header::HOST, self.host.clone());
        self.send.send_request(request).await.map_err(|e| e.to_string())
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driven.abort();
    }
}

fn tls() -> Result<TlsConnector, String> {
    let mut trusted = RootCertStore::empty();
    trusted.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if trusted.is_empty() {
        return Err("it is a URL of https, and this machine trusts no certificate".to_owned());
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?
        .with_root_certificates(trusted)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}
