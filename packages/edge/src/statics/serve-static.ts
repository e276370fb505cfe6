import type { Exchange } from '../replay/exchange.ts'
import { askPatiently, type FilesAnswer, type FilesQuestion } from '../replay/steer-question.ts'
import type { FarFolders } from './far-folders.ts'
import { isHere, openFile } from './static-folder.ts'

/** By HAProxy, of a request that may be for a file. */
export const FILES_HEADER = 'roost-files'
/** Whom HAProxy takes to have answered then: no machine did. */
const ANSWERED = { 'roost-answered': 'file' }

/** Answers a request with a file of one of its app's images; false: there is none, and nothing was answered. */
export async function serveStatic(
  exchange: Exchange,
  options: {
    readonly steerSocket: string
    /** Of folders on this host. */
    readonly dir: string
    readonly far: FarFolders
  },
): Promise<boolean> {
  const { request, gone } = exchange
  const question: FilesQuestion = {
    host: `${request.headers['roost-host'] ?? ''}`,
    path: (request.url ?? '').replace(/\?.*$/, ''),
  }
  const line = await askPatiently(options.steerSocket, `files\t${JSON.stringify(question)}`, gone)
  if (line === null) return false
  const { files } = JSON.parse(line) as FilesAnswer
  for (const { folder, path, hosts } of files) {
    const at = { dir: options.dir, folder }
    if (isHere(at)) {
      const found = await openFile(request, at, path)
      if (found === null) continue
      exchange.answer({ ...found, headers: { ...found.headers, ...ANSWERED } })
      return true
    }
    const found = await options.far.fetch({ request, folder, path, hosts, signal: gone })
    if (found === null) continue
    exchange.forward(found, ANSWERED)
    return true
  }
  return false
}
