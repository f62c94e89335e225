package server

import (
	"fmt"
	"mime"
	"net/http"
	"strconv"

	apiextserver "k8s.io/apiextensions-apiserver/pkg/apiserver"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	kruntime "k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/endpoints/handlers/responsewriters"
	"k8s.io/apiserver/pkg/endpoints/request"

	"padis.io/padis/api/runtime"
)

// typedGroups are served from Go types, which have a protobuf form; all other groups are custom resources.
var typedGroups = map[string]bool{
	"": true, "coordination.k8s.io": true, "authorization.k8s.io": true, "authentication.k8s.io": true, "apiextensions.k8s.io": true,
	"rbac.authorization.k8s.io": true,
}

// refuse answers requests that the handlers behind it would answer badly: writes to the projections, with what to
// write instead, protobuf bodies for custom resources, which crash their handler, and versions that are no numbers, which
// the store takes for an error of its own.
func refuse(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		info, ok := request.RequestInfoFrom(r.Context())
		if ok && info.IsResourceRequest {
			if err := refusal(info, r.Header.Get("Content-Type"), r.URL.Query().Get("resourceVersion")); err != nil {
				gv := schema.GroupVersion{Group: info.APIGroup, Version: info.APIVersion}
				responsewriters.ErrorNegotiated(err, apiextserver.Codecs, gv, w, r)
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}

func refusal(info *request.RequestInfo, contentType, version string) error {
	if _, err := strconv.ParseUint(version, 10, 64); version != "" && err != nil {
		return apierrors.NewBadRequest(fmt.Sprintf("resourceVersion %q is not the version of an object or a list: leave it away to read the newest", version))
	}
	write := false
	switch info.Verb {
	case "create", "update", "patch", "delete", "deletecollection":
		write = true
	}
	// Sessions are opened by creating exec and portforward.
	if info.APIGroup == runtime.GroupVersion.Group && write && info.Subresource == "" {
		err := apierrors.NewMethodNotSupported(schema.GroupResource{Group: info.APIGroup, Resource: info.Resource}, info.Verb)
		err.ErrStatus.Message = fmt.Sprintf("%s only show what is: %s", info.Resource, insteadOf(info.Resource))
		return err
	}
	if media, _, _ := mime.ParseMediaType(contentType); media == kruntime.ContentTypeProtobuf && write && !typedGroups[info.APIGroup] {
		return &apierrors.StatusError{ErrStatus: metav1.Status{
			Status: metav1.StatusFailure, Code: http.StatusUnsupportedMediaType, Reason: metav1.StatusReasonUnsupportedMediaType,
			Message: fmt.Sprintf("%s.%s are custom resources and have no protobuf form: send application/json", info.Resource, info.APIGroup),
		}}
	}
	return nil
}

func insteadOf(resource string) string {
	switch resource {
	case "instances":
		return "change spec.replicas or spec.template of the App, or delete the App"
	case "agents":
		return "agents come and go with Mesos; to keep instances away from one, change spec.placement of the App"
	case "usages":
		return "they are measured on the hosts"
	case "balances":
		return "change the LoadBalancer of that name"
	case "addresses":
		return "change spec.networks of the App, or spec.reserved of the IPPool"
	}
	return "change the App"
}
