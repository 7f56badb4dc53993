package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"time"
)

// certificate is that of the flags, or nil for http. One that is made is written to a file, as clients have to trust it, until
// forget is called.
func (o options) certificate(out io.Writer) (c *tls.Certificate, forget func(), err error) {
	forget = func() {}
	switch {
	case o.tlsCert != "":
		pair, err := tls.LoadX509KeyPair(o.tlsCert, o.tlsKey)
		if err != nil {
			return nil, nil, fmt.Errorf("-tls-cert and -tls-key: %w", err)
		}
		return &pair, forget, nil
	case !o.tls:
		return nil, forget, nil
	}
	c, err = selfSigned(append([]string{"localhost"}, o.hosts...))
	if err != nil {
		return nil, nil, err
	}
	file, err := os.CreateTemp("", "ovhauth-proxy-*.pem")
	if err != nil {
		return nil, nil, err
	}
	forget = func() { os.Remove(file.Name()) }
	err = pem.Encode(file, &pem.Block{Type: "CERTIFICATE", Bytes: c.Certificate[0]})
	if err := errors.Join(err, file.Close()); err != nil {
		forget()
		return nil, nil, err
	}
	fmt.Fprintf(out, "The certificate is in %[1]s. Programs trust it by SSL_CERT_FILE=%[1]s, REQUESTS_CA_BUNDLE (Python), "+
		"NODE_EXTRA_CA_CERTS (Node.js) or curl --cacert.\n", file.Name())
	return c, forget, nil
}

// selfSigned makes a certificate for names, and for this machine by its addresses of loopback.
func selfSigned(names []string) (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(time.Now().UnixNano()),
		Subject:               pkix.Name{CommonName: "ovhauth proxy"},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().AddDate(1, 0, 0),
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
		IsCA:                  true, // so that it can be trusted as its own authority
		IPAddresses:           []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
	}
	for _, name := range names {
		if ip := net.ParseIP(name); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, name)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}
