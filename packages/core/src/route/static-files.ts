import type { HostId } from '../id.ts'
import type { MachineStatic } from '../machine/config.ts'
import type { Route, StaticFolder } from './route.ts'
import { isTarget, newestFirst, type Ranks, type Serving } from './serving.ts'

/** Folders of a machine's image whose files edges serve; a part of what edges hear of a machine. */
export interface MachineStatics {
  /** `sha256:…`: what is in an image never changes, so its files are the same on every host. */
  readonly image: string
  readonly folders: readonly Pick<MachineStatic, 'guest_path' | 'url_prefix'>[]
}

/** Images that are looked into for one request: more than two serve side by side only while releases overtake each other. */
const IMAGES_MAX = 3
const HOSTS_MAX = 2

/**
 * By image, the newest first, then by prefix, the longest first. While two releases serve side by side, each has its own files, and a
 * page of the one finds them whoever else answers.
 */
export function staticsOf(serving: readonly Serving[], ranks: Ranks): Pick<Route, 'statics'> {
  const rank = ({ machine }: Serving) => ranks.get(machine.region) ?? ranks.size
  const sources = newestFirst(serving.filter(({ machine }) => isTarget(machine)))
  const images = [...new Set(sources.map(({ machine }) => machine.statics?.image))]
  const statics = images
    .filter((image) => image !== undefined)
    .slice(0, IMAGES_MAX)
    .flatMap((image) => {
      const having = sources.filter(({ machine }) => machine.statics?.image === image)
      const nearest = having.toSorted((a, b) => rank(a) - rank(b))
      const hosts = [...new Set(nearest.map(({ machine }): HostId => machine.host))]
      const folders = having[0]?.machine.statics?.folders ?? []
      return folders
        .map(({ guest_path, url_prefix }) => ({
          image,
          guestPath: guest_path,
          urlPrefix: url_prefix.endsWith('/') ? url_prefix : `${url_prefix}/`,
          hosts: hosts.slice(0, HOSTS_MAX),
        }))
        .sort((a, b) => b.urlPrefix.length - a.urlPrefix.length)
    })
  return statics.length === 0 ? {} : { statics }
}

/**
 * In which folders a file may be, and as what: without a slash at its beginning, decoded. `path`: of a URL, as the client wrote it, without its query. Who
 * asks for what is no plain file name gets it from the app.
 */
export function staticFilesAt<F extends Pick<StaticFolder, 'urlPrefix'>>(
  folders: readonly F[],
  path: string,
): readonly { readonly folder: F; readonly path: string }[] {
  return folders.flatMap((folder) => {
    const { urlPrefix } = folder
    const inside = path.startsWith(urlPrefix) ? plainPath(path.slice(urlPrefix.length)) : null
    return inside === null ? [] : [{ folder, path: inside }]
  })
}

function plainPath(encoded: string): string | null {
  try {
    const path = decodeURIComponent(encoded)
    const isPlain = path.split('/').every((part) => part !== '' && part !== '.' && part !== '..')
    return isPlain && !path.includes('\0') ? path : null
  } catch {
    return null
  }
}
