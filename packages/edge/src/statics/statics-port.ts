import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import { pipeline } from 'node:stream'
import { FOLDER_NAME, isHere, listFiles, openFile } from './static-folder.ts'

/** Where edges of other hosts ask for files of images that this host has: `/FOLDER/` lists them, `/FOLDER/PATH` is one. For the mesh alone. */
export interface StaticsPort {
  readonly port: number
  close(): Promise<void>
}

const CONNECTIONS_MAX = 1000
/** Of a reader that takes nothing. */
const SILENCE_MS_MAX = 100_000

export function openStaticsPort(options: {
  readonly dir: string
  readonly listen: { readonly address: string; readonly port: number }
}): Promise<StaticsPort> {
  const { dir, listen } = options

  async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const [, folder = '', rest = ''] = /^\/([^/]+\/[^/]+)\/(.*)$/.exec(request.url ?? '') ?? []
    const isPlain = request.method === 'GET' || request.method === 'HEAD'
    if (!isPlain || !FOLDER_NAME.test(folder) || !isHere({ dir, folder }))
      return void response.writeHead(404).end()
    if (rest === '') {
      response.setHeader('content-type', 'application/json')
      return void response.end(JSON.stringify(await listFiles({ dir, folder })))
    }
    const file = await openFile(request, { dir, folder }, decodeURIComponent(rest))
    if (file === null) return void response.writeHead(404).end()
    response.writeHead(file.status, file.headers)
    pipeline(file.body, response, () => {})
  }

  const open = new Set<Socket>()
  const server = createServer((request, response) => {
    response.sendDate = false
    answer(request, response).catch(() => {
      if (!response.headersSent) response.writeHead(500)
      response.end()
    })
  })
  server.maxConnections = CONNECTIONS_MAX
  server.setTimeout(SILENCE_MS_MAX)
  server.on('connection', (socket) => {
    open.add(socket)
    socket.once('close', () => open.delete(socket))
  })
  return new Promise((resolve, reject) => {
    server.once('error', reject)
    // That of another version may still be there, and have the same files.
    server.listen({ host: listen.address, port: listen.port, reusePort: true }, () => {
      const bound = server.address()
      resolve({
        port: typeof bound === 'object' && bound !== null ? bound.port : 0,
        close: async () => {
          for (const socket of open) socket.destroy()
          await new Promise((closed) => server.close(closed))
        },
      })
    })
  })
}
