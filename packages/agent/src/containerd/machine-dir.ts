import { mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { containersOf, type DnsConfig, type MachineId } from '@roost/core'
import type { MachineSpec } from '../runtime.ts'

/**
 * One directory on tmpfs per machine: made before anything else of a machine and removed after everything else, so that
 * its name leads a sweep to whatever a crash left.
 */
export class MachineDirs {
  readonly #root: string
  constructor(runDir: string) {
    this.#root = join(runDir, 'machines')
    mkdirSync(this.#root, { recursive: true, mode: 0o700 })
  }

  path(id: MachineId): string {
    return join(this.#root, id)
  }

  /** Where the environment file of the machine, or of one of its containers, lies. */
  secretDir(id: MachineId, container: string | null = null): string {
    return join(this.#of(id, container), 'roost')
  }

  /** Where the files lie that are put into the machine, or into one of its containers. */
  fileDir(id: MachineId, container: string | null = null): string {
    return join(this.#of(id, container), 'files')
  }

  #of(id: MachineId, container: string | null): string {
    return container === null ? this.path(id) : join(this.path(id), 'containers', container)
  }

  ids(): readonly MachineId[] {
    return readdirSync(this.#root) as MachineId[]
  }

  write(
    spec: Pick<MachineSpec, 'id' | 'hostname' | 'ipv4' | 'ipv6' | 'config'>,
    nameservers: readonly string[],
  ): void {
    const names = containersOf(spec.config)?.map(({ name }) => name) ?? [null]
    for (const secrets of names.map((name) => this.secretDir(spec.id, name))) {
      // Root's, but every user of the machine may go through.
      mkdirSync(secrets, { recursive: true, mode: 0o711 })
      for (const mountPoint of ['tini', 'busybox'])
        writeFileSync(join(secrets, mountPoint), '', { mode: 0o755 })
    }
    writeFileSync(join(this.path(spec.id), 'hosts'), hostsFile(spec), { mode: 0o644 })
    writeFileSync(
      join(this.path(spec.id), 'resolv.conf'),
      resolvConf(nameservers, spec.config.dns),
      {
        mode: 0o644,
      },
    )
  }

  remove(id: MachineId): void {
    rmSync(this.path(id), { recursive: true, force: true })
  }
}

const LOOPBACK = ['localhost', 'localhost.localdomain']
const LOOPBACK6 = ['localhost', 'ip6-localhost', 'ip6-loopback']
const MULTICAST6 = ['ip6-allnodes', 'ip6-allrouters'] as const

/**
 * As at Fly: `fly-local-6pn` is the machine's own private address, `fly-global-services` the one that a service over UDP binds. Containers find each other by name, as in docker compose:
 * they share the machine's network, so each of them is on localhost. A name that the machine has already keeps its meaning.
 */
export function hostsFile(
  spec: Pick<MachineSpec, 'id' | 'hostname' | 'ipv4' | 'ipv6' | 'config'>,
): string {
  const { hostname_fqdn } = spec.config.dns ?? {}
  const full = hostname_fqdn === undefined ? [] : [hostname_fqdn]
  const own = [...new Set([...full, spec.hostname, spec.id, 'fly-local-6pn'])]
  const taken = new Set([...own, ...LOOPBACK, ...LOOPBACK6, ...MULTICAST6].map(lowerCase))
  const containers = (spec.config.containers ?? [])
    .map(({ name }) => name)
    .filter((name) => !taken.has(lowerCase(name)))
  return [
    `127.0.0.1\t${[...LOOPBACK, ...containers].join(' ')}`,
    `::1\t${LOOPBACK6.join(' ')}`,
    ...MULTICAST6.map((name, n) => `ff02::${n + 1}\t${name}`),
    `${spec.ipv6}\t${own.join(' ')}`,
    `${spec.ipv4}\tfly-global-services`,
    '',
  ].join('\n')
}

/** Names are looked up without regard to case. */
const lowerCase = (name: string) => name.toLowerCase()

/** Its own nameservers take the place of the host's; of an option that is there twice the last counts. */
export function resolvConf(nameservers: readonly string[], dns: DnsConfig = {}): string {
  const options = (dns.options ?? []).map(({ name, value }) =>
    value === '' ? name : `${name}:${value}`,
  )
  return [
    ...(dns.nameservers ?? nameservers).map((address) => `nameserver ${address}`),
    ...(dns.searches === undefined ? [] : [`search ${dns.searches.join(' ')}`]),
    ['options timeout:2 attempts:2', ...options].join(' '),
    '',
  ].join('\n')
}
