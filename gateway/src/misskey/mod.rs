//! The endpoints of the Misskey API, a file for each feature; how they are called is in [`crate::api`].

pub mod account;
pub mod admin;
pub mod app;
pub mod chart;
pub mod drive;
pub mod follow;
pub mod i;
pub mod list;
pub mod mail;
pub mod meta;
pub mod miauth;
pub mod note;
pub mod notification;
pub mod poll;
pub mod reaction;
pub mod role;
pub mod second_factor;
pub mod signin;
pub mod signup;
pub mod timeline;
pub mod user;

use std::sync::LazyLock;

use axum::Router;

use crate::api::registry::Registry;
use crate::app::App;
use crate::endpoints;

/// The version that clients see: they look at the Misskey calendar number in front to know what a server can
/// do; what this server is comes after it.
pub const VERSION: &str = concat!("2025.11.1-kiroku.", env!("CARGO_PKG_VERSION"));

/// Every endpoint.
pub fn registry() -> &'static Registry {
    static REGISTRY: LazyLock<Registry> = LazyLock::new(|| {
        endpoints![
            admin::CreateAccount,
            admin::ShowMeta,
            role::Assign,
            role::Create,
            role::Delete,
            role::ListAll,
            role::ShowAny,
            role::Unassign,
            role::Update,
            admin::UpdateDefaultPolicies,
            role::AssignedUsers,
            mail::Send,
            admin::UpdateMeta,
            app::Create,
            app::Accept,
            app::Generate,
            app::Show,
            app::Userkey,
            chart::ActiveUsers,
            chart::Notes,
            chart::FollowsOfUser,
            chart::NotesOfUser,
            chart::ReactionsOfUser,
            chart::Users,
            drive::Show,
            drive::Files,
            drive::AttachedNotes,
            drive::CheckExistence,
            drive::CreateFile,
            drive::DeleteFile,
            drive::FindFiles,
            drive::FindByHash,
            drive::MoveFiles,
            drive::ShowFile,
            drive::UpdateFile,
            drive::UploadFromUrl,
            drive::Folders,
            drive::CreateFolder,
            drive::DeleteFolder,
            drive::FindFolders,
            drive::ShowFolder,
            drive::UpdateFolder,
            drive::Stream,
            mail::Available,
            meta::ShowEmoji,
            meta::Emojis,
            meta::ShowEndpoint,
            meta::Endpoints,
            follow::Create,
            follow::Delete,
            follow::Invalidate,
            follow::AcceptRequest,
            follow::CancelRequest,
            follow::ListRequests,
            follow::RejectRequest,
            follow::SentRequests,
            follow::Update,
            follow::UpdateAll,
            meta::OnlineUsers,
            i::Show,
            second_factor::Done,
            second_factor::KeyDone,
            second_factor::PasswordLess,
            second_factor::Register,
            second_factor::RegisterKey,
            second_factor::RemoveKey,
            second_factor::Unregister,
            second_factor::UpdateKey,
            app::Granted,
            app::Authorized,
            account::ChangePassword,
            account::Delete,
            notification::List,
            i::RegenerateToken,
            app::Revoke,
            account::SignInHistory,
            i::Update,
            mail::UpdateEmail,
            meta::Show,
            miauth::GenToken,
            app::Registered,
            note::Children,
            note::Conversation,
            note::Create,
            note::Delete,
            timeline::Global,
            timeline::Hybrid,
            timeline::Local,
            timeline::Mentions,
            poll::Vote,
            reaction::List,
            reaction::Create,
            reaction::Delete,
            note::Renotes,
            note::Replies,
            note::Show,
            note::State,
            timeline::Home,
            note::Unrenote,
            timeline::OfList,
            notification::MarkAllAsRead,
            meta::Ping,
            mail::RequestReset,
            mail::Reset,
            chart::Retention,
            role::List,
            role::Notes,
            role::Show,
            role::Users,
            meta::Stats,
            user::UsernameAvailable,
            user::List,
            user::Followers,
            user::Following,
            mail::SecurityInfo,
            list::Create,
            list::CreateFromPublic,
            list::Delete,
            list::Favorite,
            list::Memberships,
            list::List,
            list::Pull,
            list::Push,
            list::Show,
            list::Unfavorite,
            list::Update,
            list::UpdateMembership,
            timeline::OfUser,
            user::Relation,
            user::Show,
            mail::Verify,
        ]
    });
    &REGISTRY
}

/// What is spoken outside the list of endpoints.
pub fn routes() -> Router<App> {
    Router::new().merge(miauth::routes()).merge(signin::routes()).merge(signup::routes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_endpoints_are_in_order_and_their_rules_are_enforced() {
        assert_eq!(registry().defects, Vec::<String>::new());
    }
}
