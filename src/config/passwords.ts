/** The password in a connection URL, in every form it may turn up in a log. */
export function passwordsIn(url: string): string[] {
  const { password, searchParams } = parse(url);
  const written = [password, searchParams.get("password") ?? ""];
  const shown = withoutPassword(url);
  // One that is also in the rest of the URL (dev and devdb, postgres) is known to whoever reads that, and hiding
  // the word wherever it stands would only make logs unreadable.
  return written.flatMap((each) => [each, decoded(each)]).filter((each) => !shown.includes(each));
}

/** What of an incoming webhook's URL is as good as a password: the whole, and its path. */
export function secretsInWebhook(url: string): string[] {
  const { pathname, search } = new URL(url);
  const path = pathname + search;
  return path.length > 8 ? [url, path] : [url];
}

export function withoutPassword(url: string): string {
  const parsed = parse(url);
  parsed.password = "";
  if (parsed.searchParams.has("password")) parsed.searchParams.delete("password");
  return parsed.href.replace("@socket/", "@/");
}

/** `postgres://user@/db?host=/var/run/postgresql` is a libpq URL but not a WHATWG one. */
function parse(url: string): URL {
  return new URL(url.replace("@/", "@socket/"));
}

/** node-postgres takes `100%` as it is, too. */
function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
