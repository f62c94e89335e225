package server

import (
	"encoding/json"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"padis.io/padis/api/v1alpha1"
)

// checkSecretType demands what Kubernetes demands of Secrets of the types that it knows. The values themselves are not
// repeated in errors.
func checkSecretType(s *corev1.Secret) field.ErrorList {
	data := field.NewPath("data")
	var errs field.ErrorList
	need := func(keys ...string) {
		for _, k := range keys {
			if _, ok := s.Data[k]; !ok {
				errs = append(errs, field.Required(data.Key(k), "a Secret of type "+string(s.Type)+" has this key"))
			}
		}
	}
	const hidden = "<secret contents redacted>"
	switch s.Type {
	case corev1.SecretTypeDockerConfigJson:
		need(corev1.DockerConfigJsonKey)
		if value, ok := s.Data[corev1.DockerConfigJsonKey]; ok {
			if _, err := v1alpha1.ParseDockerConfig(value); err != nil {
				errs = append(errs, field.Invalid(data.Key(corev1.DockerConfigJsonKey), hidden, err.Error()))
			}
		}
	case corev1.SecretTypeDockercfg:
		need(corev1.DockerConfigKey)
		if value, ok := s.Data[corev1.DockerConfigKey]; ok && !json.Valid(value) {
			errs = append(errs, field.Invalid(data.Key(corev1.DockerConfigKey), hidden, "is not JSON"))
		}
	case corev1.SecretTypeBasicAuth:
		_, user := s.Data[corev1.BasicAuthUsernameKey]
		_, password := s.Data[corev1.BasicAuthPasswordKey]
		if !user && !password {
			need(corev1.BasicAuthUsernameKey, corev1.BasicAuthPasswordKey)
		}
	case corev1.SecretTypeSSHAuth:
		need(corev1.SSHAuthPrivateKey)
	case corev1.SecretTypeTLS:
		need(corev1.TLSCertKey, corev1.TLSPrivateKeyKey)
	}
	return errs
}
