package ovhauth

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
)

// AccessRule allows a consumer key one method on one path. A * in the path stands for any run of characters, slashes included;
// "/domain/zone/*" does not cover "/domain/zone" itself.
type AccessRule struct {
	Method string `json:"method"` // GET, POST, PUT or DELETE
	Path   string `json:"path"`   // relative to the endpoint: "/me"
}

// maxAnswer is more than any of the answers that ask decodes.
const maxAnswer = 1 << 20

// ask asks the API one thing through client, and decodes the answer into out, unless out is nil.
func ask(ctx context.Context, client *http.Client, method, path string, in, out any) error {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, path, body)
	if err != nil {
		return err
	}
	if in != nil {
		req.Header.Set("Content-Type", "application/json;charset=utf-8")
	}
	resp, err := client.Do(req)
	if err != nil {
		return askError(method, path, err)
	}
	if err := CheckResponse(resp); err != nil {
		return err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err == nil && out != nil {
		err = json.Unmarshal(answer, out)
	}
	if err != nil {
		return fmt.Errorf("ovhauth: reading the answer to %s %s: %w", method, path, err)
	}
	return nil
}

func askError(method, path string, err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		err = u.Err // it says method and path already
	}
	if _, ok := errors.AsType[*localError](err); ok {
		return err
	}
	if strings.Contains(err.Error(), "unsupported protocol scheme") {
		return fmt.Errorf("ovhauth: %s %s: client must use an ovhauth.Transport, which knows the endpoint", method, path)
	}
	return fmt.Errorf("ovhauth: %s %s: %w", method, path, err)
}
