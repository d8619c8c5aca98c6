//! Confines itself as the scanner does, tries what the scanner must not be able to do, and says what
//! came of it. The test `confinement` runs it; its arguments are the image's folder and the scratch
//! folder.

use std::fs::{self, File};
use std::io::{self, Read};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Command;

use portcullis_inventory::protocol::{Job, Limits, Source};

#[expect(clippy::print_stdout, reason = "this is what it is for")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let (image, scratch) = arguments.next().zip(arguments.next()).ok_or("two folders")?;
    let job = Job {
        source: Source::Root(image.clone()),
        image: None,
        platform: "linux/amd64".to_owned(),
        rules: Vec::new(),
        clamd: false,
        scratch: scratch.clone(),
        limits: Limits::default(),
    };
    let confined = portcullis_scanner::confine(&job)?;
    println!("confined by: {}", confined.join(", "));
    let read = |path: PathBuf| File::open(path).and_then(|mut f| f.read(&mut [0; 8])).map(drop);
    let tell = |what: &str, tried: io::Result<()>| match tried {
        Ok(()) => println!("can {what}"),
        Err(error) => println!("cannot {what}: {}", error.kind()),
    };
    tell("read the image", read(image.join("file")));
    tell("write to the scratch folder", fs::write(scratch.join("new"), "new"));
    tell("read another file", read("/etc/passwd".into()));
    tell("read through a link", read(image.join("way-out")));
    tell("list another folder", fs::read_dir("/etc").map(drop));
    tell("write to the image", fs::write(image.join("file"), "changed"));
    tell("remove a file of the image", fs::remove_file(image.join("file")));
    tell("make a folder", fs::create_dir(image.join("new")));
    tell("write elsewhere", fs::write("/var/tmp/portcullis-was-here", ""));
    tell("start a program", Command::new("/bin/true").status().map(drop));
    tell("listen", TcpListener::bind("127.0.0.1:0").map(drop));
    tell("connect", TcpStream::connect("127.0.0.1:1").map(drop));
    tell("send datagrams", UdpSocket::bind("127.0.0.1:0").map(drop));
    tell("use another socket", UnixStream::connect("/run/portcullis-no-such").map(drop));
    tell("make sockets", UnixStream::pair().map(drop));
    let memory: Vec<u8> = Vec::new();
    let more = { memory }.try_reserve_exact(600 << 20);
    tell("take more memory", more.map_err(|_| io::ErrorKind::OutOfMemory.into()));
    Ok(())
}
