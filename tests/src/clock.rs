//! The clock of a program that runs, put forward and back while it does: a library that is loaded before the C library's own
//! tells it another time. Linux alone.

use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    process::Command,
};

/// The library. It reads how many seconds the program's clock is ahead each time that it is asked for the time of day.
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

/// Such a clock.
#[derive(Debug)]
pub struct Clock {
    library: PathBuf,
    ahead: PathBuf,
}

impl Clock {
    /// Makes one in a folder, so many seconds ahead of the machine's.
    #[must_use]
    pub fn ahead(folder: &Path, seconds: u32) -> Self {
        let (source, library) = (folder.join("clock.c"), folder.join("clock.so"));
        fs::write(&source, SOURCE).expect("a file can be written");
        let mut compiler = Command::new("cc");
        compiler.args(["-shared", "-fPIC", "-o"]).args([&library, &source]).arg("-ldl");
        assert!(compiler.status().expect("a C compiler is there, as Rust wants one").success());
        let clock = Self { library, ahead: folder.join("clock") };
        clock.put(seconds);
        clock
    }

    /// Puts it so many seconds ahead of the machine's.
    pub fn put(&self, seconds: u32) {
        // Always as long, and never emptied before: whoever reads it meanwhile finds a number.
        let mut file =
            File::options().write(true).create(true).truncate(false).open(&self.ahead).expect("a file opens");
        file.write_all(format!("{seconds:010}").as_bytes()).expect("a file can be written");
    }

    /// What a program needs to go by it.
    #[must_use]
    pub fn variables(&self) -> Vec<(&'static str, String)> {
        let path = |path: &Path| path.display().to_string();
        vec![("LD_PRELOAD", path(&self.library)), ("TEST_CLOCK", path(&self.ahead))]
    }
}
