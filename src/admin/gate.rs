//! The admin server's door: so many connections at once, and none of them for ever.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep, sleep};

use crate::limits::ADMIN_CONNECTIONS_MAX;

/// A listener that lets in [`ADMIN_CONNECTIONS_MAX`] connections at once; the others wait in the kernel's backlog.
#[derive(Debug)]
pub(super) struct Gate {
    listener: TcpListener,
    places: Arc<Semaphore>,
    patience: Duration,
}

/// A connection with its place and its deadline. The deadline moves only when something was written, so a request
/// that trickles in byte by byte gains nothing by it.
pub(super) struct Visitor {
    stream: TcpStream,
    deadline: Pin<Box<Sleep>>,
    patience: Duration,
    _place: Option<OwnedSemaphorePermit>,
}

impl Gate {
    /// A connection may be idle, or take to state its request, for `patience`.
    pub(super) fn new(listener: TcpListener, patience: Duration) -> Self {
        let places = Arc::new(Semaphore::new(ADMIN_CONNECTIONS_MAX));
        Self {
            listener,
            places,
            patience,
        }
    }
}

impl axum::serve::Listener for Gate {
    type Io = Visitor;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        // The semaphore is never closed, so there is always a permit in the end.
        let place = Arc::clone(&self.places).acquire_owned().await.ok();
        loop {
            match self.listener.accept().await {
                Ok((stream, address)) => {
                    let (patience, deadline) = (self.patience, Box::pin(sleep(self.patience)));
                    return (
                        Visitor {
                            stream,
                            deadline,
                            patience,
                            _place: place,
                        },
                        address,
                    );
                }
                Err(error) => {
                    // Out of descriptors, most likely: others may be closed meanwhile.
                    tracing::warn!(%error, "the admin server cannot accept");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}

impl Visitor {
    /// The error of a connection that outstayed its deadline; registers the task to be woken at it otherwise.
    fn check(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        match self.deadline.as_mut().poll(context) {
            Poll::Ready(()) => Err(io::ErrorKind::TimedOut.into()),
            Poll::Pending => Ok(()),
        }
    }
}

impl AsyncRead for Visitor {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check(context)?;
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Visitor {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check(context)?;
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        if matches!(written, Poll::Ready(Ok(1..))) {
            let deadline = Instant::now() + self.patience;
            self.deadline.as_mut().reset(deadline);
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// The patience of the server: a scrape every 15 s keeps its connection.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);
/// How long to wait after a failed accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::io::Write;

    use axum::serve::Listener;

    use super::*;

    #[test]
    fn a_request_that_trickles_in_is_cut_off_at_the_deadline() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
            let mut gate = Gate::new(listener, Duration::from_millis(100));
            let mut client =
                std::net::TcpStream::connect(gate.local_addr().expect("open")).expect("connected");
            let (mut visitor, _) = gate.accept().await;
            let mut bytes = [0; 8];
            let error = loop {
                client.write_all(b"G").expect("sent");
                let mut buffer = ReadBuf::new(&mut bytes);
                if let Err(error) =
                    poll_fn(|context| Pin::new(&mut visitor).poll_read(context, &mut buffer)).await
                {
                    break error;
                }
                sleep(Duration::from_millis(1)).await;
            };
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        });
    }
}
