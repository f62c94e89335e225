package server

import (
	"fmt"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// writeKubeconfig writes the file that makes its reader an administrator.
func writeKubeconfig(path, url string, keys *pki) error {
	cfg := clientcmdapi.NewConfig()
	cfg.Clusters["padis"] = &clientcmdapi.Cluster{Server: url, CertificateAuthorityData: keys.caCert}
	cfg.AuthInfos["admin"] = &clientcmdapi.AuthInfo{ClientCertificateData: keys.admin.certPEM, ClientKeyData: keys.admin.keyPEM}
	cfg.Contexts["padis"] = &clientcmdapi.Context{Cluster: "padis", AuthInfo: "admin", Namespace: "default"}
	cfg.CurrentContext = "padis"
	data, err := clientcmd.Write(*cfg)
	if err != nil {
		return fmt.Errorf("kubeconfig: %w", err)
	}
	return writeFile(path, data, 0o600)
}
