import { accessSync, constants } from 'node:fs'
import { join } from 'node:path'
import { Failure } from '../failure/failure.ts'

const NEEDED: Readonly<Record<string, string>> = {
  containerd: 'containerd',
  runc: 'runc',
  haproxy: 'haproxy',
  wg: 'wireguard-tools',
  nft: 'nftables',
  conntrack: 'conntrack',
  ip: 'iproute2',
  nsenter: 'util-linux',
  openssl: 'openssl',
  'docker-registry': 'docker-registry',
  buildah: 'buildah',
  sysctl: 'procps',
}

/** Complains about all that is missing at once, before anything is changed. */
export function requireMachine(): void {
  if (process.platform !== 'linux') throw new Failure('hosts run Linux only')
  if (process.getuid?.() !== 0)
    throw new Failure('raising hosts needs root', {
      why: 'network namespaces, containers and firewall rules are root’s',
      fix: 'run the same command with sudo',
    })
  const missing = Object.keys(NEEDED).filter((program) => !isInstalled(program))
  if (missing.length > 0)
    throw new Failure(`${missing.join(', ')} not found on this machine`, {
      fix: `apt-get install ${[...new Set(missing.map((program) => NEEDED[program]))].join(' ')}`,
    })
}

function isInstalled(program: string): boolean {
  const folders = [...(process.env['PATH'] ?? '').split(':'), '/usr/sbin', '/sbin', '/usr/bin']
  return folders.some((folder) => {
    try {
      accessSync(join(folder, program), constants.X_OK)
      return true
    } catch {
      return false
    }
  })
}
