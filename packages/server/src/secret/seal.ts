import { seal } from '@roost/base'
import type { MachineId } from '@roost/core'

/**
 * Seals secrets for one host and one machine: a JSON object name → value. The machine's id goes with it, so that a host can't give one
 * machine the secrets of another by mistake. `recipient` is the host's raw X25519 public key in base64.
 */
export async function sealSecrets(
  recipient: string,
  machine: MachineId,
  values: Readonly<Record<string, string>>,
): Promise<string> {
  return seal(JSON.stringify(values), recipient, { info: 'roost secrets v1', context: machine })
}
