package ovhjson

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"strconv"

	"example.com/ovhauth"
)

// Pages asks for a list page by page. Lists below /v2 name the next page in the response header X-Pagination-Cursor-Next, and
// take a request header X-Pagination-Size. Lists below /v1 come whole, unless the request header X-Pagination-Mode asks for pages
// of full objects: CachedObjectList-Pages for numbered pages, CachedObjectList-Cursor for a cursor. (The web console uses these
// modes; OVHcloud does not document them.) Pages follows what the responses offer; a list that comes whole is one page.
//
// Each page is a copy of req, sent by client when the loop asks for it, and so signed anew. X-Pagination-Cursor or
// X-Pagination-Number in req say where to begin. Ranging again asks again. If req has a body, its GetBody opens it for each page.
//
// A page is a 2xx response. The loop may read its body and need not close it: Pages closes it when the loop asks for the next
// page or ends. An error comes once, without a page, and is the last: an [*ovhauth.APIError] for another response, or an error
// of client, of req's context, or for a cursor that comes twice, with which the loop would never end. [Elements] decodes the pages.
func Pages(client *http.Client, req *http.Request) iter.Seq2[*http.Response, error] {
	return func(yield func(*http.Response, error) bool) {
		p := pager{client: client, req: req, header: req.Header.Clone(), seen: map[string]bool{}}
		if p.header == nil {
			p.header = http.Header{}
		}
		for more := true; more; {
			resp, err := p.ask()
			if err != nil {
				yield(nil, err)
				return
			}
			if !give(resp, yield) {
				return
			}
			if more, err = p.turn(resp.Header); err != nil {
				yield(nil, failedRequest(p.req, err))
				return
			}
		}
	}
}

const (
	cursorHeader = "X-Pagination-Cursor"
	modeHeader   = "X-Pagination-Mode"
	numberHeader = "X-Pagination-Number"
	sizeHeader   = "X-Pagination-Size"
)

// pager is one run through the pages of a list.
type pager struct {
	client *http.Client
	req    *http.Request
	header http.Header     // of the next page
	seen   map[string]bool // cursors
}

func (p *pager) ask() (*http.Response, error) {
	if p.req.URL == nil {
		return nil, errors.New("ovhjson: the request has no URL")
	}
	ctx := p.req.Context()
	if err := ctx.Err(); err != nil {
		return nil, failedRequest(p.req, err) // not every RoundTripper looks
	}
	if p.numbered() && p.header.Get(numberHeader) == "" {
		p.header.Set(numberHeader, "1")
	}
	page := p.req.WithContext(ctx) // a copy
	page.Header = p.header.Clone() // a connection may still be reading that of the page before
	if p.req.Body != nil && p.req.Body != http.NoBody {
		if p.req.GetBody == nil {
			return nil, failedRequest(p.req, errors.New("the request's body is sent for each page, so it needs a GetBody"))
		}
		var err error
		if page.Body, err = p.req.GetBody(); err != nil {
			return nil, failedRequest(p.req, err)
		}
	}
	resp, err := p.client.Do(page)
	if err != nil {
		return nil, asOurs(err)
	}
	return resp, ovhauth.CheckResponse(resp)
}

func (p *pager) numbered() bool { return p.header.Get(modeHeader) == "CachedObjectList-Pages" }

// give lets the loop have a page, and closes it even if the loop panics.
func give(resp *http.Response, yield func(*http.Response, error) bool) bool {
	defer resp.Body.Close()
	return yield(resp, nil)
}

// turn makes the header ask for the page after the one whose response had the given header, and reports whether there is one.
func (p *pager) turn(given http.Header) (more bool, err error) {
	if p.numbered() {
		return p.turnNumber(given)
	}
	cursor := given.Get("X-Pagination-Cursor-Next")
	if p.seen[cursor] {
		return false, errors.New("the API gave the same cursor twice; the list would never end")
	}
	p.seen[cursor] = true
	p.header.Set(cursorHeader, cursor)
	return cursor != "", nil
}

func (p *pager) turnNumber(given http.Header) (more bool, err error) {
	elements, err := strconv.ParseInt(given.Get("X-Pagination-Elements"), 10, 64)
	if err != nil {
		return false, nil // this list knows no pages: it came whole
	}
	number, _ := strconv.ParseInt(p.header.Get(numberHeader), 10, 64)
	size, _ := strconv.ParseInt(cmp.Or(given.Get(sizeHeader), p.header.Get(sizeHeader)), 10, 64)
	if number < 1 || size < 1 {
		return false, fmt.Errorf("the size of a page is not known; set %s, and %s to 1 or more", sizeHeader, numberHeader)
	}
	p.header.Set(numberHeader, strconv.FormatInt(number+1, 10))
	return number <= (elements-1)/size, nil
}

// Elements decodes the JSON arrays that pages hold into one sequence. Each element is decoded when the loop asks for it, with no
// more of the body in memory than that takes. A page that is empty or null has no elements. An error comes once, with a zero T,
// and is the last: an error of pages, or of reading or decoding a response.
func Elements[T any](pages iter.Seq2[*http.Response, error]) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for resp, err := range pages {
			more := false
			if err == nil {
				if more, err = each(resp.Body, yield); err != nil {
					err = unread(resp, err)
				}
			}
			if err != nil {
				var none T
				yield(none, err)
				return
			}
			if !more {
				return
			}
		}
	}
}

// each yields the elements of a JSON array, and reports whether the loop wants more.
func each[T any](body io.Reader, yield func(T, error) bool) (more bool, err error) {
	d := json.NewDecoder(body)
	d.UseNumber()
	switch start, err := d.Token(); {
	case err == io.EOF:
		return true, nil
	case err != nil:
		return false, err
	case start == nil: // null
		return true, ended(d)
	case start != json.Delim('['):
		return false, errors.New("it is not a JSON array")
	}
	for d.More() {
		var element T
		if err := d.Decode(&element); err != nil {
			return false, noEOF(err)
		}
		if !yield(element, nil) {
			return false, nil
		}
	}
	if _, err := d.Token(); err != nil { // the ], or why there was no more
		return false, noEOF(err)
	}
	return true, ended(d)
}

// noEOF tells JSON that breaks off from a body that was read to its end.
func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
