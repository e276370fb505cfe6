import { type IncomingMessage, request } from 'node:http'
import type { FolderNames } from './folder-names.ts'
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

const LIST_BYTES_MAX = 8 * 1_048_576
const ANSWER_MS_MAX = 5000
const PASSED_ON = [
  ...['range', 'if-range', 'if-match', 'if-none-match'],
  ...['if-modified-since', 'if-unmodified-since', 'cache-control'],
]

export function createFarFolders(options: {
  readonly port: number
  readonly names: FolderNames
}): FarFolders {
  async function list(folder: string, host: string): Promise<readonly string[]> {
    const response = await ask({
      host,
      path: `/${folder}/`,
      signal: AbortSignal.timeout(ANSWER_MS_MAX),
    })
    if (response?.statusCode !== 200) throw new Error(`${host} has no list of ${folder}`)
    const chunks: Buffer[] = []
    let bytes = 0
    for await (const chunk of response as AsyncIterable<Buffer>) {
      bytes += chunk.length
      if (bytes > LIST_BYTES_MAX) throw new Error(`the list of ${folder} does not end`)
      chunks.push(chunk)
    }
    return JSON.parse(Buffer.concat(chunks).toString('utf8')) as readonly string[]
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
        const names = await options.names.find(`${host}/${folder}`, () => list(folder, host))
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
