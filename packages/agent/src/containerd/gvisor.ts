import { existsSync, mkdirSync, writeFileSync } from 'node:fs'
import { dirname } from 'node:path'
import { PlatformError } from '@roost/base'

const RUNSC = '/usr/bin/runsc'
/** In the specification of a container that runs in it. */
export const GVISOR = 'roost/gvisor'

/**
 * How containerd's shim runs gVisor in place of runc. Debian has no shim of gVisor's own, so the one for runc calls this script.
 * `ptrace` needs nothing of the processor. gVisor's own network stack does not come up beside newer kernels: with that of the
 * host a machine still has its own network namespace, so addresses and firewall are as for any other.
 */
export function writeGvisorWrapper(file: string): void {
  mkdirSync(dirname(file), { recursive: true })
  writeFileSync(file, `#!/bin/sh\nexec ${RUNSC} --network=host --platform=ptrace "$@"\n`, {
    mode: 0o755,
  })
}

/** Throws `unsupported` for good where it is not installed. */
export function requireGvisor(program = RUNSC): void {
  if (existsSync(program)) return
  throw new PlatformError(
    'unsupported',
    'isolation: gVisor is not installed on this host: apt-get install runsc',
    { retry: 'never' },
  )
}
