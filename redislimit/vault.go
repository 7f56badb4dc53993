package redislimit

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"fmt"
)

// vault has the names of the keys in Redis, and encrypts what they hold.
type vault struct {
	key, lock, failure string
	aead               cipher.AEAD
}

func newVault(secret, name string) (*vault, error) {
	derived, err := hkdf.Key(sha256.New, []byte(secret), nil, "ovhauth/redislimit: token of "+name, 40)
	if err != nil {
		return nil, fmt.Errorf("redislimit: deriving a key from Secret: %w", err)
	}
	block, err := aes.NewCipher(derived[:32])
	if err != nil {
		return nil, fmt.Errorf("redislimit: %w", err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, fmt.Errorf("redislimit: %w", err)
	}
	key := fmt.Sprintf("ovhauth:token:%s:%x", name, derived[32:])
	return &vault{key, key + ":lock", key + ":rejected", aead}, nil
}

// seal encrypts a value for one key; under another it does not open.
func (v *vault) seal(key, value string) string {
	return string(v.aead.Seal(nil, nil, []byte(value), []byte(key)))
}

// open returns "" for what was not sealed by the same Secret for the same key.
func (v *vault) open(key, sealed string) string {
	value, err := v.aead.Open(nil, nil, []byte(sealed), []byte(key))
	if err != nil {
		return ""
	}
	return string(value)
}
