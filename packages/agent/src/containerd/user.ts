import { PlatformError } from '@roost/base'

export interface ImageUser {
  readonly uid: number
  readonly gid: number
  readonly additionalGids: readonly number[]
  readonly home: string
}

/**
 * Whom `USER` of an image means, by the image's own /etc/passwd and /etc/group: `name`, `uid`, `name:group`, `uid:gid`.
 * The rules are those of Docker: an unknown name is an error, an unknown number stands for itself (with group 0), and
 * groups that list the user count only where no group was named. The main group is also among the additional ones, so that
 * a file can't shut it out by giving it less than others.
 */
export function resolveUser(user: string, passwd: string, group: string): ImageUser {
  const [name = '', groupName] = user.split(':')
  const wanted = name === '' ? '0' : name
  const entries = rows(passwd).filter((row) => isId(row[2]))
  const entry =
    entries.find((row) => row[0] === wanted) ??
    (isId(wanted) ? entries.find((row) => Number(row[2]) === Number(wanted)) : undefined)
  if (!entry && !isId(wanted)) throw unknown('user', wanted, '/etc/passwd')

  const uid = entry ? Number(entry[2]) : Number(wanted)
  const groups = rows(group).filter((row) => isId(row[2]))
  if (groupName !== undefined && groupName !== '') {
    const found = groups.find((row) => row[0] === groupName)
    if (!found && !isId(groupName)) throw unknown('group', groupName, '/etc/group')
    const gid = found ? Number(found[2]) : Number(groupName)
    return { uid, gid, additionalGids: [gid], home: homeOf(entry) }
  }
  const gid = entry && isId(entry[3]) ? Number(entry[3]) : 0
  const additionalGids = groups
    .filter((row) => entry && (row[3] ?? '').split(',').includes(entry[0] ?? ''))
    .map((row) => Number(row[2]))
  return { uid, gid, additionalGids: [...new Set([gid, ...additionalGids])], home: homeOf(entry) }
}

function rows(text: string): string[][] {
  return text.split('\n').map((line) => line.trim().split(':'))
}

function isId(text: string | undefined): text is string {
  return text !== undefined && /^\d{1,10}$/.test(text) && Number(text) <= 0xffff_fffe
}

function homeOf(entry: readonly string[] | undefined): string {
  return entry?.[5]?.startsWith('/') ? entry[5] : entry && Number(entry[2]) === 0 ? '/root' : '/'
}

function unknown(what: string, name: string, file: string): PlatformError {
  return new PlatformError('image_unusable', `${what} "${name}" is not in ${file} of the image`)
}
