//! The command line: options, commands and their help texts.

use clap::{Args, Parser, Subcommand, ValueEnum};
use serde::Serialize;
use std::{net::SocketAddr, path::PathBuf};

const FIRST_STEPS: &str = "\
First steps, after `hansa demo`:
  hansa serve --data FOLDER                      run an empty node, and keep it running
  export HANSA_DATA=FOLDER HANSA_SERVER=http://127.0.0.1:7400
  hansa import cities FILE                       import cities into the register
  hansa tenant join cities/UUID                  let a city join: it becomes a tenant
  hansa token --tenant tenants/UUID --role mayor --subject NAME";

/// Hansa: the platform on which city networks and cities run their diplomacy.
///
/// The program needs no other server: by default, one data folder holds everything. `hansa demo` shows what the
/// platform does; `hansa serve` runs it. Most other commands call a running server (--server). Without --server they
/// open the data folder themselves, which no running server may use at the same time.
///
/// Exit codes: 0 success; 1 failure; 2 invalid command line; 3 refused by the platform; 4 server or database
/// unavailable.
#[derive(Debug, Parser)]
#[command(name = "hansa", version, max_term_width = 100, after_help = FIRST_STEPS)]
pub struct Cli {
    /// Settings of the node, shared by all commands.
    #[command(flatten)]
    pub node: NodeOptions,
    /// The command to run.
    #[command(subcommand)]
    pub command: Command,
}

/// The options that all commands share: where the node keeps its data, and how to reach a server. The node's settings
/// can also be given in the configuration file or in a variable such as `HANSA_DATA`.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Node")]
pub struct NodeOptions {
    /// Configuration file (TOML); each setting can also be given in a variable such as HANSA_LISTEN
    #[arg(long, global = true, env = "HANSA_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Data folder: it holds the node's key and, without --database, all data [default: data]
    #[arg(long, global = true, value_name = "FOLDER")]
    pub data: Option<PathBuf>,
    /// PostgreSQL database, instead of SQLite files: postgres://user:password@host/database (needs --nats)
    #[arg(long, global = true, value_name = "URL")]
    pub database: Option<String>,
    /// NATS server with JetStream: nats://host:4222
    #[arg(long, global = true, value_name = "URL")]
    pub nats: Option<String>,
    /// Running server to call, such as http://127.0.0.1:7400, instead of opening the data folder
    #[arg(long, global = true, env = "HANSA_SERVER", value_name = "URL")]
    pub server: Option<String>,
    /// Certificates (PEM) of the authorities that may sign the server's certificate, for https://
    #[arg(long, global = true, env = "HANSA_CA", value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// Client certificate (PEM), for a server that requires one
    #[arg(long, global = true, env = "HANSA_CLIENT_CERTIFICATE", value_name = "FILE", requires = "client_key")]
    pub client_certificate: Option<PathBuf>,
    /// Private key (PEM) of the client certificate
    #[arg(long, global = true, env = "HANSA_CLIENT_KEY", value_name = "FILE", requires = "client_certificate")]
    pub client_key: Option<PathBuf>,
    /// Token of the caller [default: a steward's token, if the node's key file is on this machine]
    #[arg(long, global = true, env = "HANSA_TOKEN", value_name = "TOKEN", hide_env_values = true)]
    pub token: Option<String>,
    /// Print JSON, for programs
    #[arg(long, global = true)]
    pub json: bool,
}

/// The settings that the command line overrides.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Overrides {
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    database: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    nats: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    listen: Option<SocketAddr>,
}

impl NodeOptions {
    /// Returns the settings that override the configuration.
    pub fn overrides(&self, listen: Option<SocketAddr>) -> Overrides {
        Overrides { data: self.data.clone(), database: self.database.clone(), nats: self.nats.clone(), listen }
    }
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the platform until Ctrl-C or SIGTERM
    Serve {
        /// Address to listen on [default: 127.0.0.1:7400]
        #[arg(long, value_name = "ADDRESS")]
        listen: Option<SocketAddr>,
        /// Run only these services, separated by commas (needs PostgreSQL and NATS)
        #[arg(long, value_delimiter = ',', value_name = "SERVICES")]
        only: Vec<String>,
    },
    /// Show what the platform does: load a sample of real cities, and let two of them conclude an agreement
    ///
    /// The demo runs embedded in a new temporary folder. It ignores --data and --database.
    Demo {
        /// Address to listen on
        #[arg(long, default_value = "127.0.0.1:7400", value_name = "ADDRESS")]
        listen: SocketAddr,
        /// Stop at the end instead of keeping the server running
        #[arg(long)]
        once: bool,
    },
    /// Import published data: cities, country facts, town twinnings
    ///
    /// The command lists each row that cannot be imported with its line and the reason, imports the other rows, and
    /// succeeds. A second import of the same file changes nothing. An interrupted import can be run again.
    #[command(subcommand)]
    Import(Import),
    /// Create and list tenants: cities that join, secretariats, organizers
    #[command(subcommand)]
    Tenant(Tenant),
    /// Issue a token of the embedded issuer (needs the node's key, but no server)
    Token {
        /// The tenant, tenants/{uuid} [default: the node's own tenant]
        #[arg(long, value_name = "NAME")]
        tenant: Option<String>,
        /// A role; repeat for more. In a city: mayor, delegate, council_clerk, ir_officer, observer; in a secretariat:
        /// director, officer, treasurer; in an organizer: officer, juror; for a program: service_account; only in the
        /// node's own tenant: steward, auditor, operator
        #[arg(long = "role", required = true, value_name = "ROLE")]
        roles: Vec<String>,
        /// The holder's name in your directory; changes contain only a pseudonym that is derived from it
        #[arg(long, value_name = "SUBJECT")]
        subject: String,
        /// Scopes of a service account, such as partnerships.read; repeat for more
        #[arg(long = "scope", value_name = "SCOPE")]
        scopes: Vec<String>,
        /// Days until it expires, at most 366. A token cannot be revoked
        #[arg(long, default_value_t = 30)]
        days: i64,
    },
    /// Show the history of a record: who changed what, and when
    History {
        /// The record, such as agreements/{uuid} or cities/{uuid}
        record: String,
    },
    /// Erase texts that your tenant wrote into a record, permanently
    Erase {
        /// The record, such as agreements/{uuid}
        record: String,
        /// Seal of one text (hex); repeat for more [default: all texts of your tenant in the record]
        #[arg(long = "seal", value_name = "HEX")]
        seals: Vec<String>,
        /// Print how many texts would be erased, and erase nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// Export an agreement as a document that anyone can check offline (needs a token of one of its parties)
    Export {
        /// The agreement, agreements/{uuid}
        agreement: String,
        /// The file to write
        #[arg(long, short, value_name = "FILE")]
        output: PathBuf,
    },
    /// Check an exported document offline, and print what it proves
    Verify {
        /// The exported document
        file: PathBuf,
        /// The node's public key (64 hex digits), received through another channel; it must have signed the document
        #[arg(long, value_name = "HEX")]
        key: Option<String>,
    },
    /// Fold every state and view row again from the journal, and compare (opens the data folder: stop the server first,
    /// unless the data is in PostgreSQL)
    Rebuild,
    /// List changes that a service could not apply, or apply them again (opens the data folder, like rebuild)
    Replay {
        /// Apply all of them again
        #[arg(long)]
        all: bool,
    },
    /// Check the node: key, NATS, frozen records, overdue timers, quarantine (opens the data folder, like rebuild)
    Doctor,
    /// Apply the pending migrations of the database, before this version serves
    ///
    /// `serve` also applies them when it starts. Replicas that migrate concurrently wait for each other. Migrations
    /// only add to the schema, so the previous version can serve meanwhile.
    Migrate {
        /// Migrate only these services, separated by commas
        #[arg(long, value_delimiter = ',', value_name = "SERVICES")]
        only: Vec<String>,
    },
    /// Ask a running server whether it serves, for probes [default server: the configured address on this machine]
    Health {
        /// Ask only whether the process is alive, even if it waits for its database
        #[arg(long)]
        live: bool,
    },
    /// Print all settings, and where each comes from
    Config,
    /// Print the permissions: for each rpc and each relation of the caller to the record, the permitted roles
    Policy,
    /// Import a folder of real data into a new node, and run the demo's journey on it
    CheckReal {
        /// The folder with the data
        folder: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
pub enum Import {
    /// Cities: a CSV file with named columns (may be gzipped), or a dump of GeoNames
    ///
    /// Columns, in any order: geonameid, name, country, admin1, population, lat, lon, timezone, feature_code. All
    /// columns are required; geonameid, name and country must not be empty.
    Cities {
        /// The file
        file: PathBuf,
        /// The format of the file [default: geonames if the name ends in .txt, else csv]
        #[arg(long, value_enum)]
        format: Option<CityFormat>,
        /// The source of the data, which the register will name
        #[arg(long, default_value = "GeoNames (CC BY 4.0)")]
        source: String,
    },
    /// Country facts: a folder with countries.csv and further files
    ///
    /// countries.csv is required: iso2, iso3, name, official_name, un_since, region, subregion, languages_iso639_3.
    /// Optional files: country_regime.csv (iso3, year, scheme, value, class), country_income_group.csv (iso3,
    /// fiscal_year, income_group), country_memberships.csv (iso3, organisation, joined, left, status),
    /// country_state_structure.csv (iso3, structure, certainty).
    Countries {
        /// The folder
        folder: PathBuf,
    },
    /// Town twinnings, as attested agreements; import the cities first
    ///
    /// Columns: tie_id, then for both cities (with the prefix a_ or b_) id, name, country, tier, lat, lon; claimed_by is
    /// optional. An id is `g` and a GeoNames id, or `x` and an id of the list for a city that no register contains.
    /// A tier is MUNICIPALITY, REGION or SUB_MUNICIPAL. The import calls both register and partnerships: if each
    /// service runs in its own process, run the import without --server.
    Ties {
        /// The file (CSV)
        file: PathBuf,
        /// The source of the data, which the agreements will name
        #[arg(long, default_value = "Wikidata (CC0) and Wikipedia (CC BY-SA 4.0)")]
        source: String,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum CityFormat {
    /// Comma-separated, with a header of named columns
    Csv,
    /// A dump of GeoNames: 19 tab-separated columns without a header
    Geonames,
}

#[derive(Debug, Subcommand)]
pub enum Tenant {
    /// Create the tenant of a city that joins
    Join {
        /// The city, cities/{uuid}. An import derives it from the GeoNames id; ListCities finds it by display name
        city: String,
    },
    /// Create the tenant of a secretariat or an organizer
    Create {
        /// Display name of the tenant
        name: String,
        /// Kind of the tenant: secretariat or organizer
        #[arg(long, default_value = "secretariat")]
        kind: String,
    },
    /// List tenants
    List,
}
