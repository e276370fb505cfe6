import { usage } from '../failure/failure.ts'

export function checkedMachineId(id: string): string {
  if (/^[0-9a-f]{14}$/.test(id)) return id
  throw usage(`"${id}" is no machine: ids have 14 hex characters`, 'roost machine list')
}
