package why

// GitReason is a reason of the conditions of GitSources or Syncs.
type GitReason struct {
	Reason string
	// Of is whose reason it is: GitSource, Sync or both.
	Of string
	// Means is what has happened, and Do what to do about it; empty where there is nothing to do.
	Means, Do string
}

const ofSource, ofSync, ofBoth = "GitSource", "Sync", "both"

// GitReasons lists the reasons of GitSources and Syncs.
func GitReasons() []GitReason {
	return []GitReason{
		{"Fetched", ofSource, "the newest commit is fetched, and believed", ""},
		{"Unreachable", ofSource, "the server cannot be reached, or ends the conversation", "see whether the host of the control plane reaches it, and whether spec.proxy is needed; it is tried again"},
		{"Timeout", ofSource, "the server has not answered within spec.timeout", "allow more time, or see why it is slow; it is tried again"},
		{"ProxyRefused", ofSource, "the proxy does not let the connection pass", "look at the Secret of spec.proxy, and at what the proxy allows"},
		{"CertificateUntrusted", ofSource, "nobody vouches for the certificate of the server", "put the certificate of its authority into spec.caBundle"},
		{"HostKeyUnknown", ofSource, "the ssh server has a key that is not known", "compare its fingerprint, and put what ssh-keyscan prints into spec.knownHosts"},
		{"HostKeyChanged", ofSource, "the ssh server has another key than the known one", "find out why; if it was changed on purpose, change spec.knownHosts"},
		{"AuthenticationFailed", ofSource, "the server does not accept the credentials, or there are none", "look at the Secret of spec.secretRef, and at what its user may read"},
		{"CredentialsUnreadable", ofSource, "a Secret or ConfigMap that the source needs is missing, or cannot be read", "declare it, or correct the reference"},
		{"RepositoryNotFound", ofSource, "there is no such repository, or the credentials may not see it", "correct spec.url or the credentials; what was applied stays"},
		{"RepositoryEmpty", ofSource, "the repository has no commits", "push one"},
		{"RefNotFound", ofSource, "there is no such branch, tag, version or commit", "push it, or correct spec.ref"},
		{"HistoryRewritten", ofSource, "a branch was force-pushed, or a tag was moved", "push a commit on top of the one in force, or make a new tag; or, if it is meant, confirm it as the message says"},
		{"TooLarge", ofSource, "the repository, a file or the list of refs exceeds its bound", "take what is large out of the repository, or out of spec.paths"},
		{"ServerRefused", ofSource, "the server does not give what is asked for, or speaks what cannot be read", "do what the message says: name the branch that the commit is on, or use a repository with SHA-1 hashes"},
		{"SymlinkRefused", ofBoth, "a symbolic link leads out of the repository", "put the file where the link is"},
		{"CacheDamaged", ofBoth, "what was fetched is damaged", "nothing: it is fetched anew; if this stays, see the disk of the control plane"},
		{"NotSigned", ofSource, "the commit or tag is not signed", "sign it (git commit -S, git tag -s) and push; the commit in force stays"},
		{"SignatureBroken", ofSource, "the signature is not one of what it stands on", "find out who has changed the commit; sign it anew"},
		{"SignerUnknown", ofSource, "it is signed by a key that nobody in spec.verify.signers has", "have one of them sign, or add the key"},
		{"SignerNotAllowed", ofSource, "it is signed by somebody who may not change these files, or is not listed", "have somebody sign who may, or extend the signer's paths or identities"},
		{"KeyNotValidThen", ofSource, "the key was not valid when it was used", "sign with a key that is valid, or correct the times in the list of signers"},
		{"TagOfOther", ofSource, "the tag is signed for another commit or name", "make a new tag"},
		{"TrustMalformed", ofSource, "the keys of a signer cannot be read", "correct the Secret or ConfigMap that spec.verify names"},

		{"UpToDate", ofSync, "the newest commit is applied", ""},
		{"RolledBack", ofSync, "an earlier commit is in force by spec.rollback", "push a commit that mends what the bad one has changed, or remove spec.rollback"},
		{"NoCommit", ofSync, "the source has no commit yet", "see `padis why gitsource/NAME`"},
		{"Applying", ofSync, "a commit is being applied", ""},
		{"WaitingForHealth", ofSync, "a wave is applied, and not all of it is healthy yet", "`padis why` of the objects in status.unhealthy says what they wait for"},
		{"Unhealthy", ofSync, "objects are not healthy, and the time for it has run out or it will not pass", "`padis why` of the objects in status.unhealthy says what is wrong; the next commit does not wait"},
		{"SourceNotReady", ofSync, "the GitSource does not exist, or has nothing that may be applied", "`padis why gitsource/NAME` says why; what was applied stays"},
		{"SettingsUnreadable", ofSync, "a ConfigMap or Secret with variables or keys is missing, or cannot be read", "declare it, correct the reference, or make it optional"},
		{"ManifestsBroken", ofSync, "a file cannot be rendered, or an object may not be where it is", "mend what the message names by file and line, and push; nothing of the commit is applied"},
		{"Refused", ofSync, "the API server does not take an object, or the service account may not write it", "mend what the message names by file and line, or extend the service account's Role; nothing of the commit is applied"},
		{"Conflict", ofSync, "others hold fields with other values, or another Sync has an object", "take the fields out of the repository, or have the others give them up: see status.conflicts"},
		{"Failed", ofSync, "an attempt has failed for another reason", "see the message; it is tried again"},
		{"BackOff", ofSync, "the last attempt has failed, and is repeated later", "see the condition's message, or push a commit, which does not wait"},
		{"Stalled", ofSync, "the commit cannot be applied", "push another commit, or change the Sync"},
		{"WaitingForSyncs", ofSync, "Syncs of spec.dependsOn are not ready, are missing, or wait for this one", "see what those lack: `padis why sync/NAME` shows the chain"},
		{"OutsideWindows", ofSync, "changes are applied in spec.windows only", "wait for the window, or change spec.windows"},
		{"PruneLimit", ofSync, "a commit deletes more than spec.pruneLimit allows", "look at what would go (`padis describe sync NAME`), and confirm it as the message says"},
		{"PruneAll", ofSync, "a commit deletes all that the Sync has applied", "look whether spec.path is right, and confirm it as the message says"},
		{"HandingOver", ofSync, "the commit is applied, and objects that have left the repository stay for another Sync, which declares them and has not taken them over yet", "`padis why` of the Sync that the message names says what that waits for"},
		{"Drifted", ofSync, "others have changed fields, and spec.drift is Report", "put the change into the repository, or take it back"},
		{"DriftContested", ofSync, "somebody changes fields again as soon as they are put back, which is done more and more seldom", "have what the message names stop, or take the fields out of the repository"},
		{"DriftCorrected", ofSync, "others have changed fields, and they were put back (an event)", "put the change into the repository, if it is wanted"},
		{"Pruned", ofSync, "the Sync was deleted, and what it had applied with it (an event)", ""},
		{"NotificationFailed", ofSync, "a receiver of spec.notifications does not take messages (an event)", "look at its Secret and at the receiver; it is tried again"},
		{"NotificationLost", ofSync, "too many messages waited for the receivers (an event)", "get the receivers going, or take them out of spec.notifications"},
		{"Healthy", ofSync, "all objects are healthy", ""},

		{"Invalid", ofBoth, "the declaration contradicts itself, or names what cannot be", "correct the field that the message names"},
		{"Suspended", ofBoth, "spec.suspend is set", "unset it"},
	}
}

// GitRemedy says what a person can do about a reason of a GitSource or Sync; empty where there is nothing to do.
func GitRemedy(reason string) string {
	for _, r := range GitReasons() {
		if r.Reason == reason {
			return r.Do
		}
	}
	return ""
}
