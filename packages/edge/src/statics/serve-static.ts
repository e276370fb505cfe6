import { staticFilesAt } from '@roost/core'
import type { Exchange } from '../replay/exchange.ts'
import { askPatiently, type FilesAnswer } from '../replay/steer-question.ts'
import { createFarFolders } from './far-folders.ts'
import { createFolderNames } from './folder-names.ts'
import { isHere, listFiles, openFile } from './static-folder.ts'

/** By HAProxy, of a request that may be for a file. */
export const FILES_HEADER = 'roost-files'
/** Whom HAProxy takes to have answered then: no machine did. */
const ANSWERED = { 'roost-answered': 'file' }
/** What the edge says of a host name holds for so long: many requests are one question, and a new release is found at once. */
const FOLDERS_MS = 100
const HOSTS_MAX = 1000

/** Answers a request with a file of one of its app's images; false: there is none, and nothing was answered. */
export type ServeStatic = (exchange: Exchange) => Promise<boolean>

export function createServeStatic(options: {
  readonly steerSocket: string
  /** Of folders on this host. */
  readonly dir: string
  /** Where other hosts are asked for theirs. */
  readonly port: number
}): ServeStatic {
  const { dir, port, steerSocket } = options
  const names = createFolderNames()
  const far = createFarFolders({ port, names })
  const known = new Map<string, { readonly at: number; readonly folders: FilesAnswer['folders'] }>()

  async function foldersOf(host: string, gone: AbortSignal): Promise<FilesAnswer['folders']> {
    const found = known.get(host)
    if (found !== undefined && performance.now() - found.at < FOLDERS_MS) return found.folders
    const line = await askPatiently(steerSocket, `files\t${host}`, gone)
    if (line === null) return []
    if (known.size >= HOSTS_MAX) known.clear()
    const { folders } = JSON.parse(line) as FilesAnswer
    known.set(host, { at: performance.now(), folders })
    return folders
  }

  return async (exchange) => {
    const { request, gone } = exchange
    const host = `${request.headers['roost-host'] ?? ''}`
    const asked = (request.url ?? '').replace(/\?.*$/, '')
    for (const { folder: at, path } of staticFilesAt(await foldersOf(host, gone), asked)) {
      const { folder, hosts } = at
      const here = { dir, folder }
      if (isHere(here)) {
        const has = await names.find(folder, () => listFiles(here))
        const found = has?.has(path) === true ? await openFile(request, here, path) : null
        if (found === null) continue
        exchange.answer({ ...found, headers: { ...found.headers, ...ANSWERED } })
        return true
      }
      const found = await far.fetch({ request, folder, path, hosts, signal: gone })
      if (found === null) continue
      exchange.forward(found, ANSWERED)
      return true
    }
    return false
  }
}
