import { createHash } from 'node:crypto'

/**
 * Where, below a host's folder for files that edges serve, those of one folder of an image lie: the agent writes them there, once and for all,
 * and edges look for them by the same name.
 */
export function staticFolderName(image: string, guestPath: string): string {
  const folder = createHash('sha256').update(guestPath).digest('hex').slice(0, 16)
  return `${image.replace(':', '-')}/${folder}`
}
