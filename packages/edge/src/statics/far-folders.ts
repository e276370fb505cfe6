import { type IncomingMessage, request } from 'node:http'
import { encodePath } from './static-folder.ts'

/** Files of folders that another host has. Which files a folder has is asked once: what is none of them costs no way there and back. */
export interface FarFolders {
  /** null: it is no file, or nobody who has it answers. */
  fetch(asked: {
    readonly request: IncomingMessage
    readonly folder: string
    readonly path: string
    /** Addresses, nearest first. */
    readonly hosts: readonly string[]
    readonly signal: AbortSignal
  }): Promise<IncomingMessage | null>
}

const LISTS_MAX = 100
const LIST_BYTES_MAX = 16 * 1_048_576
const ANSWER_MS_MAX = 5000
/** A folder whose list could not be had is not asked for in each request. */
const AGAIN_MS = 1000
const PASSED_ON = [
  ...['range', 'if-range', 'if-match', 'if-none-match'],
  ...['if-modified-since', 'if-unmodified-since', 'cache-control'],
]

interface Known {
  readonly names: Promise<ReadonlySet<string> | null>
  /** Milliseconds, of `performance.now`; infinite once it is had. */
  until: number
}

export function createFarFolders(options: { readonly port: number }): FarFolders {
  const known = new Map<string, Known>()

  function namesOf(folder: string, host: string): Known['names'] {
    const key = `${host}/${folder}`
    const found = known.get(key)
    if (found !== undefined && performance.now() < found.until) return found.names
    known.delete(key)
    for (const oldest of known.keys()) if (known.size >= LISTS_MAX) known.delete(oldest)
    const made: Known = {
      names: list(folder, host).catch(() => null),
      until: Number.POSITIVE_INFINITY,
    }
    known.set(key, made)
    void made.names.then((names) => {
      if (names === null) made.until = performance.now() + AGAIN_MS
    })
    return made.names
  }

  async function list(folder: string, host: string): Promise<ReadonlySet<string> | null> {
    const response = await ask({
      host,
      path: `/${folder}/`,
      signal: AbortSignal.timeout(ANSWER_MS_MAX),
    })
    if (response?.statusCode !== 200) return null
    const chunks: Buffer[] = []
    let bytes = 0
    for await (const chunk of response as AsyncIterable<Buffer>) {
      bytes += chunk.length
      if (bytes > LIST_BYTES_MAX) return null
      chunks.push(chunk)
    }
    return new Set(JSON.parse(Buffer.concat(chunks).toString('utf8')) as readonly string[])
  }

  function ask(asked: {
    readonly host: string
    readonly path: string
    readonly method?: string
    readonly headers?: Readonly<Record<string, string>>
    readonly signal: AbortSignal
  }): Promise<IncomingMessage | null> {
    const { host, path, method = 'GET', headers = {}, signal } = asked
    return new Promise((resolve) => {
      const made = request({
        host,
        port: options.port,
        path,
        method,
        headers,
        signal,
        agent: false,
      })
      const late = setTimeout(() => made.destroy(), ANSWER_MS_MAX)
      made.once('response', (response) => {
        clearTimeout(late)
        resolve(response)
      })
      made.on('error', () => {
        clearTimeout(late)
        resolve(null)
      })
      made.end()
    })
  }

  return {
    async fetch({ request: { method = 'GET', headers }, folder, path, hosts, signal }) {
      const passedOn = Object.fromEntries(
        PASSED_ON.flatMap((name) =>
          headers[name] === undefined ? [] : [[name, `${headers[name]}`]],
        ),
      )
      for (const host of hosts) {
        const names = await namesOf(folder, host)
        if (names === null) continue
        if (!names.has(path)) return null
        const response = await ask({
          ...{ host, path: `/${folder}/${encodePath(path)}`, method, headers: passedOn, signal },
        })
        const status = response?.statusCode ?? 0
        if (response !== null && status !== 404 && status < 500) return response
        response?.destroy()
      }
      return null
    },
  }
}
