//! A clock that a test can shift while a program runs. A preloaded library overrides `clock_gettime` of the C library.
//! Linux only.

use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    process::Command,
};

/// The source of the library. Each call for the time of day reads the offset in seconds from a file.
const SOURCE: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static int file = -1;

__attribute__((constructor)) static void begin(void) { file = open(getenv("TEST_CLOCK"), O_RDONLY); }

int clock_gettime(clockid_t clock, struct timespec *now) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int result = real(clock, now);
    char text[32] = {0};
    if (clock == CLOCK_REALTIME && file >= 0 && pread(file, text, sizeof text - 1, 0) > 0) now->tv_sec += atol(text);
    return result;
}
"#;

/// A clock with an adjustable offset.
#[derive(Debug)]
pub struct Clock {
    library: PathBuf,
    ahead: PathBuf,
}

impl Clock {
    /// Builds the library in a folder and sets the clock `seconds` ahead of the machine's.
    #[must_use]
    pub fn ahead(folder: &Path, seconds: u32) -> Self {
        let (source, library) = (folder.join("clock.c"), folder.join("clock.so"));
        fs::write(&source, SOURCE).expect("a file can be written");
        let mut compiler = Command::new("cc");
        compiler.args(["-shared", "-fPIC", "-o"]).args([&library, &source]).arg("-ldl");
        assert!(compiler.status().expect("a C compiler is installed").success());
        let clock = Self { library, ahead: folder.join("clock") };
        clock.put(seconds);
        clock
    }

    /// Sets the clock `seconds` ahead of the machine's.
    pub fn put(&self, seconds: u32) {
        // The file keeps its length and is not truncated, so that a concurrent reader always finds a number.
        let mut file =
            File::options().write(true).create(true).truncate(false).open(&self.ahead).expect("a file opens");
        file.write_all(format!("{seconds:010}").as_bytes()).expect("a file can be written");
    }

    /// Returns the environment variables for a program that uses the clock.
    #[must_use]
    pub fn variables(&self) -> Vec<(&'static str, String)> {
        let path = |path: &Path| path.display().to_string();
        vec![("LD_PRELOAD", path(&self.library)), ("TEST_CLOCK", path(&self.ahead))]
    }
}
