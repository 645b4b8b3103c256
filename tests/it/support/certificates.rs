//! Certificates that openssl makes: of authorities that a test trusts or does not, and of whoever serves by them.

use std::{path::PathBuf, process::Command, sync::Arc};

use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};
use tempfile::TempDir;

/// Certificates, in a directory.
pub(crate) struct Certificates(TempDir);

impl Certificates {
    /// Two authorities, `ours` and `theirs`.
    pub(crate) fn new() -> Self {
        let this = Self(tempfile::tempdir().unwrap());
        for name in ["ours", "theirs"] {
            let subject = format!("/CN={name}");
            let (key, file) = (format!("{name}.key"), format!("{name}.pem"));
            this.openssl(&[
                "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", &subject, "-keyout", &key, "-out", &file,
            ]);
        }
        this
    }

    pub(crate) fn path(&self, file: &str) -> PathBuf {
        self.0.path().join(file)
    }

    fn openssl(&self, arguments: &[&str]) {
        let output = Command::new("openssl").args(arguments).current_dir(self.0.path()).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// What somebody with these names serves by, signed by ours.
    pub(crate) fn of(&self, names: &str) -> ServerConfig {
        let extension = format!("subjectAltName={names}");
        self.openssl(&[
            "req", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=any", "-addext", &extension, "-keyout", "key", "-out", "request",
        ]);
        let sign = ["-CA", "ours.pem", "-CAkey", "ours.key", "-CAcreateserial", "-days", "2", "-copy_extensions", "copy"];
        self.openssl(&[&["x509", "-req", "-in", "request", "-out", "certificate"][..], &sign].concat());
        let certificate = CertificateDer::from_pem_file(self.path("certificate")).unwrap();
        let key = PrivateKeyDer::from_pem_file(self.path("key")).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
        let config = config.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
        config.with_single_cert(vec![certificate], key).unwrap()
    }
}
