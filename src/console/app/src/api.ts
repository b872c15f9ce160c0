// What the page asks of the server that serves it.

export interface StreamInfo {
  name: string;
  state: string;
  viewers: number;
  video?: { codec: string; width?: number; height?: number };
}

export interface MoqEndpoint {
  url: string;
  /** Hex SHA-256 of a short-lived certificate to pin; absent when normal PKI vouches for it. */
  certificate_sha256?: string;
}

/** A public key (RFC 7517, RFC 8037). */
export interface Jwk {
  kty: string;
  crv?: string;
  kid?: string;
  x?: string;
}

const token = new URLSearchParams(location.search).get("token");

export const listStreams = async (): Promise<StreamInfo[]> =>
  (await get<{ streams: StreamInfo[] }>("/v1/streams")).streams;

export const moqEndpoint = async (): Promise<MoqEndpoint> => get<MoqEndpoint>("/v1/moq");

/** The server's time in UTC milliseconds. */
export const serverTime = async (): Promise<number> => (await get<{ unix_ms: number }>("/v1/time")).unix_ms;

/** The keys whose events the server believes. */
export const eventKeys = async (): Promise<Jwk[]> =>
  (await get<{ keys: Jwk[] }>("/.well-known/hawker-keys.json")).keys;

export const flvUrl = (stream: string): string => withToken(new URL(`/${stream}.flv`, location.href)).href;

export const whepUrl = (stream: string): URL => withToken(new URL(`/whep/${stream}`, location.href));

/** The viewer's token travels in the URL of media requests: browsers can set no header on WebTransport. */
export function withToken(url: URL): URL {
  if (token) url.searchParams.set("token", token);
  return url;
}

async function get<T>(path: string): Promise<T> {
  const response = await fetch(path, { headers: token ? { authorization: `Bearer ${token}` } : {} });
  if (!response.ok) throw new Error(`${path} answered ${response.status}`);
  return (await response.json()) as T;
}
