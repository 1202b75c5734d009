//! The endpoints of the Misskey API, a file for each feature; how they are called is in [`crate::api`].

pub mod account;
pub mod achievement;
pub mod acquaintance;
pub mod ad;
pub mod admin;
pub mod announcement;
pub mod antenna;
pub mod app;
pub mod block;
pub mod channel;
pub mod chart;
pub mod clip;
pub mod decoration;
pub mod draft;
pub mod drive;
pub mod drive_moderation;
pub mod emoji;
pub mod emoji_archive;
pub mod export;
pub mod favorite;
pub mod featured;
pub mod follow;
pub mod hashtag;
pub mod i;
pub mod import;
pub mod invitation;
pub mod list;
pub mod machine;
pub mod mail;
pub mod memo;
pub mod meta;
pub mod miauth;
pub mod moderation;
pub mod mute;
pub mod note;
pub mod notification;
pub mod pin;
pub mod poll;
pub mod push;
pub mod reaction;
pub mod registry;
pub mod report;
pub mod role;
pub mod rss;
pub mod search;
pub mod second_factor;
pub mod signin;
pub mod signup;
pub mod timeline;
pub mod user;
pub mod webhook;
pub mod work;

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
            report::List,
            admin::CreateAccount,
            moderation::DeleteAccount,
            moderation::FindByEmail,
            ad::Create,
            ad::Delete,
            ad::List,
            ad::Update,
            announcement::Create,
            announcement::Delete,
            announcement::ListAll,
            announcement::Update,
            decoration::Create,
            decoration::Delete,
            decoration::ListAll,
            decoration::Update,
            drive_moderation::CleanRemoteFiles,
            drive_moderation::CleanUp,
            drive_moderation::DeleteAll,
            drive_moderation::Files,
            drive_moderation::ShowFile,
            emoji::Add,
            emoji::AddAliases,
            emoji::Copy,
            emoji::Delete,
            emoji::DeleteMany,
            emoji_archive::Import,
            emoji::List,
            emoji::ListRemote,
            emoji::RemoveAliases,
            emoji::SetAliases,
            emoji::SetCategory,
            emoji::SetLicense,
            emoji::Update,
            moderation::IndexStats,
            moderation::TableStats,
            invitation::CreateMany,
            invitation::ListAll,
            admin::ShowMeta,
            moderation::RegenerateToken,
            moderation::ResetPassword,
            report::Resolve,
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
            moderation::Logs,
            moderation::Show,
            moderation::List,
            moderation::Suspend,
            drive_moderation::UnsetAvatar,
            drive_moderation::UnsetBanner,
            moderation::Unsuspend,
            report::Annotate,
            admin::UpdateMeta,
            moderation::UpdateNote,
            announcement::ShowByOldName,
            announcement::List,
            announcement::Show,
            antenna::Create,
            antenna::Delete,
            antenna::List,
            antenna::Notes,
            antenna::Show,
            antenna::Update,
            app::Create,
            app::Accept,
            app::Generate,
            app::Show,
            app::Userkey,
            block::Create,
            block::Delete,
            block::List,
            channel::Create,
            channel::Favorite,
            channel::Featured,
            channel::Follow,
            channel::Followed,
            channel::CreateMute,
            channel::DeleteMute,
            channel::ListMutes,
            channel::MyFavorites,
            channel::Owned,
            channel::Search,
            channel::Show,
            channel::Timeline,
            channel::Unfavorite,
            channel::Unfollow,
            channel::Update,
            chart::ActiveUsers,
            chart::Files,
            chart::Notes,
            chart::FilesOfUser,
            chart::FollowsOfUser,
            chart::NotesOfUser,
            chart::ReactionsOfUser,
            chart::Users,
            clip::AddNote,
            clip::Create,
            clip::Delete,
            clip::Favorite,
            clip::List,
            clip::MyFavorites,
            clip::Notes,
            clip::RemoveNote,
            clip::Show,
            clip::Unfavorite,
            clip::Update,
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
            emoji::Show,
            emoji::All,
            meta::ShowEndpoint,
            meta::Endpoints,
            emoji_archive::Export,
            rss::Fetch,
            work::flash::Create,
            work::flash::Delete,
            work::flash::Featured,
            work::flash::Like,
            work::flash::Own,
            work::flash::Liked,
            work::flash::Search,
            work::flash::Show,
            work::flash::Unlike,
            work::flash::Update,
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
            work::gallery::Featured,
            work::gallery::Popular,
            work::gallery::List,
            work::gallery::Create,
            work::gallery::Delete,
            work::gallery::Like,
            work::gallery::Show,
            work::gallery::Unlike,
            work::gallery::Update,
            decoration::List,
            meta::OnlineUsers,
            hashtag::List,
            hashtag::Search,
            hashtag::Show,
            hashtag::Trend,
            hashtag::Users,
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
            achievement::Claim,
            account::Delete,
            export::Antennas,
            export::Blocking,
            export::Clips,
            export::Favorites,
            export::Following,
            export::Mute,
            export::Notes,
            export::UserLists,
            favorite::List,
            work::gallery::Liked,
            work::gallery::Own,
            import::Antennas,
            import::Blocking,
            import::Following,
            import::Muting,
            import::UserLists,
            notification::List,
            notification::ListGrouped,
            work::page::Liked,
            work::page::Own,
            pin::Pin,
            announcement::Read,
            i::RegenerateToken,
            registry::Get,
            registry::GetAll,
            registry::GetDetail,
            registry::Keys,
            registry::KeysWithType,
            registry::Remove,
            registry::ScopesWithDomain,
            registry::Set,
            app::Revoke,
            account::SignInHistory,
            pin::Unpin,
            i::Update,
            mail::UpdateEmail,
            webhook::Create,
            webhook::Delete,
            webhook::List,
            webhook::Show,
            webhook::Test,
            webhook::Update,
            invitation::Create,
            invitation::Delete,
            invitation::Remaining,
            invitation::List,
            meta::Show,
            miauth::GenToken,
            mute::Create,
            mute::Delete,
            mute::List,
            app::Registered,
            note::List,
            note::Children,
            clip::OfNote,
            note::Conversation,
            note::Create,
            note::Delete,
            draft::Count,
            draft::Create,
            draft::Delete,
            draft::List,
            draft::Update,
            favorite::Create,
            favorite::Delete,
            featured::Everywhere,
            timeline::Global,
            timeline::Hybrid,
            timeline::Local,
            timeline::Mentions,
            poll::Recommendation,
            poll::Vote,
            reaction::List,
            reaction::Create,
            reaction::Delete,
            note::Renotes,
            note::Replies,
            draft::Cancel,
            draft::Scheduled,
            search::Notes,
            hashtag::Notes,
            note::Show,
            note::ShowPartialBulk,
            note::State,
            mute::CreateOfThread,
            mute::DeleteOfThread,
            timeline::Home,
            note::Translate,
            note::Unrenote,
            timeline::OfList,
            notification::Create,
            notification::Flush,
            notification::MarkAllAsRead,
            notification::Test,
            work::page::Create,
            work::page::Delete,
            work::page::Featured,
            work::page::Like,
            work::page::Show,
            work::page::Unlike,
            work::page::Update,
            meta::Ping,
            pin::PinnedUsers,
            mute::CreateOfRenotes,
            mute::DeleteOfRenotes,
            mute::ListOfRenotes,
            mail::RequestReset,
            mail::Reset,
            chart::Retention,
            role::List,
            role::Notes,
            role::Show,
            role::Users,
            machine::Show,
            meta::Stats,
            push::Register,
            push::Show,
            push::Unregister,
            push::Update,
            user::UsernameAvailable,
            user::List,
            achievement::OfUser,
            clip::OfUser,
            featured::OfUser,
            work::flash::OfUser,
            user::Followers,
            user::Following,
            work::gallery::OfUser,
            acquaintance::AnsweredMost,
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
            work::page::OfUser,
            reaction::OfUser,
            acquaintance::Recommendation,
            user::Relation,
            report::File,
            search::People,
            search::ByName,
            user::Show,
            memo::Update,
            emoji::Find,
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
