//! A containerd that answers a shim's first question and no other: what it cannot be asked to be.
//!
//! A proxy takes the place of containerd's socket. Everyone's bytes pass, but of a shim's
//! connection only until the first call has been answered (RFC 9113: frames are nine bytes of
//! header and what they announce; a response ends with the flag END_STREAM).

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use anyhow::{Context as _, Result};

const END_STREAM: u8 = 1;
const DATA: u8 = 0;
const HEADERS: u8 = 1;

/// Stalls the shims of one node until it is dropped.
pub struct Stalling {
    socket: PathBuf,
    real: PathBuf,
    done: Arc<AtomicBool>,
    listener: Option<JoinHandle<()>>,
}

impl Stalling {
    /// Takes the place of the socket at this path.
    ///
    /// # Errors
    /// The socket cannot be moved or bound.
    pub fn new(socket: PathBuf) -> Result<Self> {
        let real = socket.with_extension("real");
        std::fs::rename(&socket, &real).context("moving containerd's socket")?;
        let listener = UnixListener::bind(&socket).context("taking the socket's place")?;
        let done = Arc::new(AtomicBool::new(false));
        let (to, ended) = (real.clone(), done.clone());
        let listener = std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if ended.load(Ordering::Relaxed) {
                    return;
                }
                let Ok(server) = UnixStream::connect(&to) else { continue };
                join(client, server);
            }
        });
        Ok(Self { socket, real, done, listener: Some(listener) })
    }
}

impl Drop for Stalling {
    fn drop(&mut self) {
        self.done.store(true, Ordering::Relaxed);
        let _wakes_the_listener = UnixStream::connect(&self.socket);
        if let Some(listener) = self.listener.take() {
            let _ended = listener.join();
        }
        let _shown_by_the_next_case = std::fs::rename(&self.real, &self.socket);
    }
}

fn join(client: UnixStream, server: UnixStream) {
    let stalls = is_shim(&client);
    let (Ok(mut from_client), Ok(mut to_server)) = (client.try_clone(), server.try_clone()) else {
        return;
    };
    std::thread::spawn(move || {
        let _ended = std::io::copy(&mut from_client, &mut to_server);
        let _gone = to_server.shutdown(Shutdown::Both);
    });
    std::thread::spawn(move || {
        let _ended = answer(server, &client, stalls);
        let _gone = client.shutdown(Shutdown::Both);
    });
}

/// Passes frames on; if it stalls, none after the end of the first response.
fn answer(mut server: UnixStream, mut client: &UnixStream, stalls: bool) -> std::io::Result<()> {
    loop {
        let mut frame = vec![0; 9];
        server.read_exact(&mut frame)?;
        let length = u32::from_be_bytes([0, frame[0], frame[1], frame[2]]);
        let (kind, flags) = (frame[3], frame[4]);
        let of_stream = frame[5..9] != [0; 4];
        frame.resize(9 + length as usize, 0);
        server.read_exact(&mut frame[9..])?;
        client.write_all(&frame)?;
        let ends = matches!(kind, DATA | HEADERS) && flags & END_STREAM != 0 && of_stream;
        if stalls && ends {
            // Nothing more comes; the connection stays until the client gives up.
            std::io::copy(&mut server, &mut std::io::sink())?;
            return Ok(());
        }
    }
}

fn is_shim(client: &UnixStream) -> bool {
    let Ok(peer) = rustix::net::sockopt::socket_peercred(client) else {
        return false;
    };
    let exe = Path::new("/proc").join(peer.pid.as_raw_nonzero().to_string()).join("exe");
    std::fs::read_link(exe).is_ok_and(|exe| exe.to_string_lossy().contains("shim-portcullis"))
}
