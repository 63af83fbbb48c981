"""Any ``nn.Module``, differentiated by autograd and ``torch.func``."""
