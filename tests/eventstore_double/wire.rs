//! The published messages of the Streams protocol (version 24.10), as far as an append and a read need them.

use std::collections::HashMap;

use prost::{Message, Oneof};

#[derive(Clone, PartialEq, Message)]
pub struct Empty {}

#[derive(Clone, PartialEq, Message)]
pub struct Uuid {
    #[prost(oneof = "UuidValue", tags = "1, 2")]
    pub value: Option<UuidValue>,
}

#[derive(Clone, PartialEq, Oneof)]
pub enum UuidValue {
    #[prost(message, tag = "1")]
    Structured(Structured),
    #[prost(string, tag = "2")]
    Text(String),
}

#[derive(Clone, PartialEq, Message)]
pub struct Structured {
    #[prost(int64, tag = "1")]
    pub high: i64,
    #[prost(int64, tag = "2")]
    pub low: i64,
}

#[derive(Clone, PartialEq, Message)]
pub struct StreamName {
    #[prost(bytes = "vec", tag = "3")]
    pub name: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Place {
    #[prost(uint64, tag = "1")]
    pub commit: u64,
    #[prost(uint64, tag = "2")]
    pub prepare: u64,
}

// Append.

#[derive(Clone, PartialEq, Message)]
pub struct AppendReq {
    #[prost(oneof = "AppendContent", tags = "1, 2")]
    pub content: Option<AppendContent>,
}

#[derive(Clone, PartialEq, Oneof)]
pub enum AppendContent {
    #[prost(message, tag = "1")]
    Options(AppendOptions),
    #[prost(message, tag = "2")]
    Proposed(Proposed),
}

#[derive(Clone, PartialEq, Message)]
pub struct AppendOptions {
    #[prost(message, optional, tag = "1")]
    pub stream: Option<StreamName>,
    #[prost(oneof = "Expected", tags = "2, 3, 4, 5")]
    pub expected: Option<Expected>,
}

#[derive(Clone, PartialEq, Oneof)]
pub enum Expected {
    #[prost(uint64, tag = "2")]
    Revision(u64),
    #[prost(message, tag = "3")]
    NoStream(Empty),
    #[prost(message, tag = "4")]
    Any(Empty),
    #[prost(message, tag = "5")]
    Exists(Empty),
}

#[derive(Clone, PartialEq, Message)]
pub struct Proposed {
    #[prost(message, optional, tag = "1")]
    pub id: Option<Uuid>,
    #[prost(map = "string, string", tag = "2")]
    pub metadata: HashMap<String, String>,
    #[prost(bytes = "vec", tag = "3")]
    pub custom_metadata: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    pub data: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
pub struct AppendResp {
    #[prost(oneof = "Appended", tags = "1, 2")]
    pub result: Option<Appended>,
}

#[derive(Clone, PartialEq, Oneof)]
pub enum Appended {
    #[prost(message, tag = "1")]
    Success(Success),
    #[prost(message, tag = "2")]
    Wrong(Wrong),
}

#[derive(Clone, PartialEq, Message)]
pub struct Success {
    #[prost(oneof = "Current", tags = "1, 2")]
    pub current: Option<Current>,
    #[prost(oneof = "Written", tags = "3, 4")]
    pub position: Option<Written>,
}

#[derive(Clone, PartialEq, Oneof)]
pub enum Current {
    #[prost(uint64, tag = "1")]
    Revision(u64),
    #[prost(message, tag = "2")]
    NoStream(Empty),
}

#[derive(Clone, PartialEq, Oneof)]
pub enum Written {
    #[prost(message, tag = "3")]
    At(Place),
    #[prost(message, tag = "4")]
    Nowhere(Empty),
}

#[derive(Clone, PartialEq, Message)]
pub struct Wrong {
    #[prost(oneof = "WrongCurrent", tags = "6, 7")]
    pub current: Option<WrongCurrent>,
    #[prost(oneof = "WrongExpected", tags = "8, 9, 10, 11")]
    pub expected: Option<WrongExpected>,
}

#[derive(Clone, PartialEq, Oneof)]
pub enum WrongCurrent {
    #[prost(uint64, tag = "6")]
    Revision(u64),
    #[prost(message, tag = "7")]
    NoStream(Empty),
}

#[derive(Clone, PartialEq, Oneof)]
pub enum WrongExpected {
    #[prost(uint64, tag = "8")]
    Revision(u64),
    #[prost(message, tag = "9")]
    Any(Empty),
    #[prost(message, tag = "10")]
    Exists(Empty),
    #[prost(message, tag = "11")]
    NoStream(Empty),
}

// Append, many in one call.

#[derive(Clone, PartialEq, Message)]
pub struct BatchAppendReq {
    #[prost(message, optional, tag = "1")]
    pub correlation: Option<Uuid>,
    #[prost(message, optional, tag = "2")]
    pub options: Option<AppendOptions>,
    #[prost(message, repeated, tag = "3")]
    pub events: Vec<Proposed>,
}

#[derive(Clone, PartialEq, Message)]
pub struct BatchAppendResp {
    #[prost(message, optional, tag = "1")]
    pub correlation: Option<Uuid>,
    #[prost(message, optional, tag = "4")]
    pub stream: Option<StreamName>,
    #[prost(oneof = "BatchAppended", tags = "2, 3")]
    pub result: Option<BatchAppended>,
}

#[derive(Clone, PartialEq, Oneof)]
pub enum BatchAppended {
    #[prost(message, tag = "2")]
    Error(Status),
    #[prost(message, tag = "3")]
    Success(Success),
}

#[derive(Clone, PartialEq, Message)]
pub struct Status {
    #[prost(int32, tag = "1")]
    pub code: i32,
    #[prost(string, tag = "2")]
    pub message: String,
}

// Read.

#[derive(Clone, PartialEq, Message)]
pub struct ReadReq {
    #[prost(message, optional, tag = "1")]
    pub options: Option<ReadOptions>,
}

#[derive(Clone, PartialEq, Message)]
pub struct ReadOptions {
    #[prost(oneof = "Source", tags = "1, 2")]
    pub source: Option<Source>,
    /// 0 forwards, 1 backwards.
    #[prost(int32, tag = "3")]
    pub direction: i32,
    #[prost(oneof = "Extent", tags = "5, 6")]
    pub extent: Option<Extent>,
    #[prost(oneof = "Filtered", tags = "7, 8")]
    pub filter: Option<Filtered>,
}

#[derive(Clone, PartialEq, Oneof)]
pub enum Source {
    #[prost(message, tag = "1")]
    Stream(StreamOptions),
    #[prost(message, tag = "2")]
    All(AllOptions),
}

#[derive(Clone, PartialEq, Message)]
pub struct StreamOptions {
    #[prost(message, optional, tag = "1")]
    pub stream: Option<StreamName>,
    #[prost(oneof = "FromRevision", tags = "2, 3, 4")]
    pub from: Option<FromRevision>,
}

#[derive(Clone, PartialEq, Oneof)]
pub enum FromRevision {
    #[prost(uint64, tag = "2")]
    Revision(u64),
    #[prost(message, tag = "3")]
    Start(Empty),
    #[prost(message, tag = "4")]
    End(Empty),
}

#[derive(Clone, PartialEq, Message)]
pub struct AllOptions {
    #[prost(oneof = "FromPlace", tags = "1, 2, 3")]
    pub from: Option<FromPlace>,
}

#[derive(Clone, PartialEq, Oneof)]
pub enum FromPlace {
    #[prost(message, tag = "1")]
    At(Place),
    #[prost(message, tag = "2")]
    Start(Empty),
    #[prost(message, tag = "3")]
    End(Empty),
}

#[derive(Clone, PartialEq, Oneof)]
pub enum Extent {
    #[prost(uint64, tag = "5")]
    Count(u64),
    #[prost(message, tag = "6")]
    Subscription(Empty),
}

#[derive(Clone, PartialEq, Oneof)]
pub enum Filtered {
    #[prost(message, tag = "7")]
    By(Filter),
    #[prost(message, tag = "8")]
    Not(Empty),
}

#[derive(Clone, PartialEq, Message)]
pub struct Filter {
    #[prost(message, optional, tag = "1")]
    pub stream: Option<Expression>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Expression {
    #[prost(string, tag = "1")]
    pub regex: String,
    #[prost(string, repeated, tag = "2")]
    pub prefix: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
pub struct ReadResp {
    #[prost(oneof = "ReadContent", tags = "1, 2, 3, 4")]
    pub content: Option<ReadContent>,
}

#[derive(Clone, PartialEq, Oneof)]
pub enum ReadContent {
    #[prost(message, tag = "1")]
    Event(ReadEvent),
    #[prost(message, tag = "2")]
    Confirmation(Confirmation),
    #[prost(message, tag = "3")]
    Checkpoint(Place),
    #[prost(message, tag = "4")]
    NotFound(NotFound),
}

#[derive(Clone, PartialEq, Message)]
pub struct ReadEvent {
    #[prost(message, optional, tag = "1")]
    pub event: Option<RecordedEvent>,
    #[prost(uint64, tag = "3")]
    pub commit: u64,
}

#[derive(Clone, PartialEq, Message)]
pub struct RecordedEvent {
    #[prost(message, optional, tag = "1")]
    pub id: Option<Uuid>,
    #[prost(message, optional, tag = "2")]
    pub stream: Option<StreamName>,
    #[prost(uint64, tag = "3")]
    pub revision: u64,
    #[prost(uint64, tag = "4")]
    pub prepare: u64,
    #[prost(uint64, tag = "5")]
    pub commit: u64,
    #[prost(map = "string, string", tag = "6")]
    pub metadata: HashMap<String, String>,
    #[prost(bytes = "vec", tag = "7")]
    pub custom_metadata: Vec<u8>,
    #[prost(bytes = "vec", tag = "8")]
    pub data: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Confirmation {
    #[prost(string, tag = "1")]
    pub id: String,
}

#[derive(Clone, PartialEq, Message)]
pub struct NotFound {
    #[prost(message, optional, tag = "1")]
    pub stream: Option<StreamName>,
}

// What a client asks first.

#[derive(Clone, PartialEq, Message)]
pub struct SupportedMethods {
    #[prost(message, repeated, tag = "1")]
    pub methods: Vec<SupportedMethod>,
    #[prost(string, tag = "2")]
    pub version: String,
}

#[derive(Clone, PartialEq, Message)]
pub struct SupportedMethod {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(string, tag = "2")]
    pub service: String,
}

#[derive(Clone, PartialEq, Message)]
pub struct ClusterInfo {
    #[prost(message, repeated, tag = "1")]
    pub members: Vec<Member>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Member {
    #[prost(message, optional, tag = "1")]
    pub id: Option<Uuid>,
    /// 8: the leader.
    #[prost(int32, tag = "3")]
    pub state: i32,
    #[prost(bool, tag = "4")]
    pub alive: bool,
    #[prost(message, optional, tag = "5")]
    pub at: Option<Endpoint>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Endpoint {
    #[prost(string, tag = "1")]
    pub address: String,
    #[prost(uint32, tag = "2")]
    pub port: u32,
}
