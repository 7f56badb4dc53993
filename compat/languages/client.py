"""Does what python-ovh does, with Python's standard library alone:
python3 client.py ENDPOINT APPLICATION_KEY APPLICATION_SECRET CONSUMER_KEY
makes a call for each line "METHOD PATH [JSON]" of its input, and writes a line of JSON with "status" and "body"."""
import hashlib, json, sys, time
import urllib.error, urllib.request


class APIError(Exception):
    def __init__(self, status, message):
        super().__init__(message)
        self.status = status


class Client:
    def __init__(self, endpoint, application_key, application_secret, consumer_key):
        self.endpoint, self.application_key = endpoint, application_key
        self.application_secret, self.consumer_key = application_secret, consumer_key
        self._time_delta = None

    def time_delta(self):
        if self._time_delta is None:  # asked once, as long as the client lives
            self._time_delta = int(self.call("GET", "/auth/time", need_auth=False)) - int(time.time())
        return self._time_delta

    def target(self, path):
        if self.endpoint.endswith("/1.0") and path.startswith(("/v1", "/v2")):
            return self.endpoint[:-4] + path
        return self.endpoint + path

    def call(self, method, path, data=None, need_auth=True):
        target, body = self.target(path), ""
        headers = {"X-Ovh-Application": self.application_key}
        if data is not None:
            headers["Content-type"] = "application/json"
            body = json.dumps(data, separators=(",", ":"))
        if need_auth:
            now = str(int(time.time()) + self.time_delta())
            text = "+".join([self.application_secret, self.consumer_key, method.upper(), target, body, now])
            headers["X-Ovh-Consumer"] = self.consumer_key
            headers["X-Ovh-Timestamp"] = now
            headers["X-Ovh-Signature"] = "$1$" + hashlib.sha1(text.encode("utf-8")).hexdigest()
        request = urllib.request.Request(target, body.encode("utf-8") or None, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=180) as response:
                return json.loads(response.read() or "null")
        except urllib.error.HTTPError as error:
            raise APIError(error.code, error.read().decode("utf-8", "replace")) from None


client = Client(*sys.argv[1:])
for line in sys.stdin:
    method, path, *data = line.split(maxsplit=2)
    try:
        result = {"status": 200, "body": json.dumps(client.call(method, path, *map(json.loads, data)))}
    except APIError as error:
        result = {"status": error.status, "body": str(error)}
    print(json.dumps(result), flush=True)
