//! An app behind real listeners, in the process of the test: its clock is the test's.

use std::net::SocketAddr;

use countersign::{
    config::Config,
    http::{Listeners, serve},
};
use tokio::{net::TcpListener, sync::watch};

use super::TestApp;

pub(crate) struct Listening {
    pub(crate) app: TestApp,
    pub(crate) api: SocketAddr,
    pub(crate) ext_authz: SocketAddr,
    _end: watch::Sender<bool>,
}

impl Listening {
    pub(crate) async fn new() -> Self {
        let app = TestApp::new().await;
        let bind = async || TcpListener::bind("127.0.0.1:0").await.unwrap();
        let listeners = Listeners { api: bind().await, admin: bind().await, ext_authz: Some(bind().await) };
        let [api, ext_authz] = [Some(&listeners.api), listeners.ext_authz.as_ref()].map(|one| one.unwrap().local_addr().unwrap());
        let (end, ending) = watch::channel(false);
        let serving = app.app.clone();
        tokio::spawn(async move {
            let config = Config::layered(&Default::default(), [], None).unwrap();
            serve(serving, listeners, &config, ending).await;
        });
        Self { app, api, ext_authz, _end: end }
    }
}
